"""What of a Kubernetes object may be shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def without_values(made: Any) -> Any:
    """A copy in which no environment variable shows its value."""
    if isinstance(made, Mapping):
        plain = {key: without_values(value) for key, value in made.items()}
        if set(made) == {"name", "value"}:
            plain["value"] = "***"
        return plain
    return [without_values(each) for each in made] if isinstance(made, list | tuple) else made
