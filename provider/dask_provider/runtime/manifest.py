"""The list of what a job wrote under ``DASK_JOB_RESULTS``: path, bytes, checksum."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

from .dask_side import NotReady

VERSION = 1


def check_file_system(uri: str) -> None:
    """Whether what it takes to read and write there is installed; nobody is asked for anything yet.

    :raises NotReady: naming what is missing.
    """
    from fsspec import get_filesystem_class
    from fsspec.utils import get_protocol

    try:
        get_filesystem_class(get_protocol(uri))
    except (ImportError, ValueError) as error:
        raise NotReady(f"the results at {uri} cannot be written from here: {error}") from error


def build_manifest(job_id: str, results: str) -> dict[str, Any]:
    """Read every file below ``results`` (any URI that fsspec opens) and describe it, sorted by path."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(results)
    root = root.rstrip("/")
    found = fs.find(root, detail=True) if fs.exists(root) else {}

    def describe(item: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        path, _ = item
        digest, count = hashlib.sha256(), 0
        with fs.open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                count += len(block)
            rows = _rows(file) if path.endswith(".parquet") else None
        return {"path": path[len(root) + 1 :], "bytes": count, "sha256": digest.hexdigest(), "rows": rows}

    with ThreadPoolExecutor(8) as pool:
        files = sorted(pool.map(describe, found.items()), key=lambda entry: entry["path"])
    return {
        "version": VERSION,
        "job_id": job_id,
        "results": results,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bytes": sum(entry["bytes"] for entry in files),
        "files": files,
    }


def write_manifest(uri: str, manifest: dict[str, Any]) -> None:
    """Write it as JSON."""
    import fsspec

    with fsspec.open(uri, "w", auto_mkdir=True) as file:
        json.dump(manifest, file)


def _rows(file: Any) -> int | None:
    """Rows of a Parquet file where pyarrow is there to tell."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        return None
    file.seek(0)
    return int(parquet.ParquetFile(file).metadata.num_rows)
