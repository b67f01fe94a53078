"""What is made once and kept outside the checkout, under a name that says what it was made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers.gobuild import CACHE as COMMON_CACHE

HERE = Path(__file__).resolve().parent
CACHE = COMMON_CACHE / "kubernetes"


def key_of(*inputs: Path, text: str = "") -> str:
    """A short hash of these files and folders."""
    digest = hashlib.sha256(text.encode())
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"\0{file.name}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def cached(name: str, make: Callable[[Path], None], cache: Path = CACHE) -> Path:
    """The file or folder of this name, made by ``make`` at the path it is given when it is missing."""
    path = cache / name
    if path.exists():
        os.utime(path, follow_symlinks=False)  # in use: not to be forgotten
        return path
    with locked(cache / f"{name}.lock"):  # parallel test processes: one makes it, the others wait
        if not path.exists():
            unfinished = cache / f"{name}.unfinished"
            remove(unfinished)
            make(unfinished)
            os.replace(unfinished, path)
            _forget_old(name.split("-")[0], cache)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _forget_old(kind: str, cache: Path) -> None:
    """What was made from other inputs and has not been used for a month: some of it has a gigabyte."""
    for path in cache.glob(f"{kind}-*"):
        if path.suffix not in (".lock", ".unfinished") and path.lstat().st_mtime < time.time() - 30 * 86400:
            if path.is_symlink():
                remove(path.resolve())
            remove(path)


def run(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    :raises RuntimeError: with the end of its errors, when it fails.
    """
    more = None if env is None else {**os.environ, **env}
    done = subprocess.run(
        command, cwd=cwd, env=more, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} … failed: {done.stderr.strip()[-500:]}")
    return done.stdout
