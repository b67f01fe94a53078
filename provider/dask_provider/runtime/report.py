"""One-line JSON messages of the runtime, in the same stream as the job's own output.

So progress works wherever logs can be followed, with no extra port; and a missing ``outcome`` message means "unknown".
"""

from __future__ import annotations

import json
import sys
from typing import Any

PREFIX = "::dask-job:: "


def emit(kind: str, **fields: Any) -> None:
    """Write one message: ``kind`` is ``waiting``, ``started``, ``progress``, ``worker_lost`` or ``outcome``."""
    sys.stdout.write(PREFIX + json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


def parse(line: str) -> dict[str, Any] | None:
    """The message in a line, or ``None`` for a line of the job itself (also one that only looks like a message)."""
    if not line.startswith(PREFIX):
        return None
    try:
        message = json.loads(line[len(PREFIX) :])
    except ValueError:
        return None
    return message if isinstance(message, dict) and isinstance(message.get("kind"), str) else None
