"""Files of the bundle that were too large to travel with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from .dask_side import NotReady


def fetch(uris: Mapping[str, str], folder: Path) -> None:
    """Put each of them where it belongs in the bundle. Blocks.

    :param uris: by path in the bundle; each ends with the file's SHA-256.
    :raises NotReady: one cannot be read from here, or is not what was put there.
    """
    for path, uri in uris.items():
        try:
            import fsspec

            with fsspec.open(uri, "rb") as file:
                content = file.read()
        except Exception as error:  # of any client library
            raise NotReady(
                f"{uri} cannot be read here ({type(error).__name__}: {error}); allowed: an image with fsspec and the "
                "library of this store, and a job that may read there"
            ) from error
        if hashlib.sha256(content).hexdigest() != uri.rpartition("/")[2]:
            raise NotReady(f"{uri} was changed or damaged: its SHA-256 is not its name")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
