"""``python -m dask_provider.hooks.dataproc.actions FOLDER``: write there what machines read of ours."""

from __future__ import annotations

import sys
from pathlib import Path

from dask_provider.hooks.dataproc.actions import script
from dask_provider.jobs import ARCHIVE, runtime_archive


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m dask_provider.hooks.dataproc.actions FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dask", "nfs"):
        path = folder / f"{name}.sh"
        path.write_text(script(name))
        path.chmod(0o755)
        print(path)
    runtime = folder / ARCHIVE
    runtime.write_bytes(runtime_archive())
    print(runtime)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
