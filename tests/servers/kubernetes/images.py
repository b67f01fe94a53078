"""Container images made from packages: nothing here knows a registry of images."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.servers.gobuild import MACHINE
from tests.servers.kubernetes.cached import HERE, cached, key_of, run

CHECKOUT = HERE.parents[2]
PAUSE_IMAGE = "localhost/pause:1"
DASK_IMAGE = "localhost/dask:tests"
# The image has the Python of Debian 12, whatever Python runs the tests.
PYTHON = "/usr/bin/python3"
SITE = "usr/local/lib/python3.11/dist-packages"
_ENV = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"]


def make_dask_image(
    reference: str = DASK_IMAGE,
    requirements: Path = CHECKOUT / "requirements" / "image.txt",
    say: Callable[[str], object] = lambda line: None,
    entry_point: Sequence[str] = (),
) -> Path:
    """An image with what is pinned in ``requirements``, made in about a minute when it is not in the cache.

    :param reference: the name that pods use.
    :param requirements: a requirements file, with hashes.
    :param say: is told before it takes long.
    :param entry_point: command that arguments of a container are for.
    :returns: the tar to import.
    :raises RuntimeError: it cannot be made here.
    """
    key = key_of(HERE / "debian-layer.sh", HERE / "images.py", requirements, text=" ".join([reference, *entry_point]))

    def make(path: Path) -> None:
        say(f"making the image {reference} (a minute, once)")
        _make_dask_image(path, reference, requirements, entry_point)

    return cached(f"image-{key}.tar", make)


def pause_image(program: Path) -> Path:
    """The image of the first process of every pod."""
    key = key_of(program, HERE / "images.py")

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            layer = Path(scratch) / "layer.tar"
            with tarfile.open(layer, "w") as tar:
                tar.add(program, "pause", filter=_anonymous)
            write_image(path, PAUSE_IMAGE, [layer], {"Entrypoint": ["/pause"]})

    return cached(f"pause-{key}.tar", make)


def write_image(path: Path, reference: str, layers: Sequence[Path], config: dict[str, Any]) -> None:
    """Write the format of ``docker save``, which containerd imports."""
    digests = [_sha256(layer) for layer in layers]
    created = "2026-01-01T00:00:00Z"
    description = {
        "architecture": MACHINE,
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": created} for _ in digests],
    }
    content = json.dumps(description).encode()
    name = f"{hashlib.sha256(content).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar" for digest in digests]}]
    with tarfile.open(path, "w") as tar:
        for entry, data in ((name, content), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(entry)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for digest, layer in zip(digests, layers, strict=True):
            tar.add(layer, f"{digest}/layer.tar")


def _make_dask_image(path: Path, reference: str, requirements: Path, entry_point: Sequence[str]) -> None:
    script = HERE / "debian-layer.sh"
    debian = cached(f"debian-{key_of(script)}.tar", lambda layer: run([str(script), str(layer)]))
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        root = Path(scratch) / "root"
        packages, programs = root / SITE, root / "usr" / "local" / "bin"
        packages.mkdir(parents=True)
        programs.mkdir(parents=True)
        # pip runs itself under the image's Python, so that versions and wheels are chosen for that one.
        pip = [sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", "--root-user-action", "ignore"]
        run([*pip, "--no-compile", "--require-hashes", "--target", str(packages), "-r", str(requirements)])
        for program in (packages / "bin").iterdir():
            lines = program.read_text().splitlines()[1:]
            program.write_text("\n".join([f"#!{PYTHON}", *lines, ""]))
            shutil.move(program, programs / program.name)
        # The operator's KubeCluster calls commands that distributed does not have any more.
        for part in ("scheduler", "worker"):
            if not (programs / f"dask-{part}").exists():
                (programs / f"dask-{part}").write_text(f'#!/bin/sh\nexec dask {part} "$@"\n')
                (programs / f"dask-{part}").chmod(0o755)
        for tests in [folder for folder in packages.rglob("tests") if folder.is_dir()]:
            shutil.rmtree(tests, ignore_errors=True)
        # Without compiled files every start of a pod would compile for seconds; a template that is no Python may fail.
        compile_all = [PYTHON, "-m", "compileall", "-q", "-s", str(root), "-j", "2", str(packages)]
        subprocess.run(compile_all, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        layer = Path(scratch) / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            tar.add(root, ".", filter=_anonymous)
        config = {"Env": _ENV, "Cmd": ["/bin/bash"], "WorkingDir": "/home/dask", "Entrypoint": list(entry_point)}
        write_image(path, reference, [debian, layer], config)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
