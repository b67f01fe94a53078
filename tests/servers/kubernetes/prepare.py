"""What a server needs before its first start: programs, images and the operator. Made once, then found in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.servers.gobuild import SYSTEM, go_program
from tests.servers.kubernetes.cached import CACHE, HERE, cached, key_of, locked, remove, run
from tests.servers.kubernetes.images import CHECKOUT, PYTHON, make_dask_image, pause_image

PROGRAMS = ("kubectl", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
PROGRAMS += ("kube-proxy", "coredns")
# Debian package: what it brings.
DEBIAN = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "nftables": "nft",
    "iproute2": "ip",
    "util-linux": "nsenter",
}
_PLUGINS = "/usr/sbin:/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Prepared:
    """:param programs: a folder with ``kubectl`` and the parts of Kubernetes.
    :param operator: the Python environment of the Dask operator.
    :param store: containerd's unpacked images; only for nodes.
    """

    programs: Path
    operator: Path
    store: Path | None

    @property
    def kubectl(self) -> str:
        return str(self.programs / "kubectl")

    @property
    def chart(self) -> Path:
        """The operator's Helm chart, as its wheel brings it: custom resource definitions and rights."""
        return next(self.operator.glob("lib/python*/site-packages/dask_kubernetes/operator/deployment/helm/*/"))


def impossible(mode: str) -> str:
    """Why this machine can never run the server, or nothing."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if mode == "api":
        return ""
    if os.geteuid():
        return "pods need root"
    if not os.path.ismount("/sys/fs/cgroup/pids"):
        return "pods need cgroup version 1"
    if not re.search(r"^VERSION_ID=\"?12\b", Path("/etc/os-release").read_text(), re.M):
        return "pods need the packages of Debian 12"
    return ""


def prepare(mode: str, say: Callable[[str], object] = lambda line: None) -> Prepared:
    """Make what is missing.

    :param say: is told of everything that takes long, before it starts.
    :raises RuntimeError: it cannot be had here, with the reason.
    """
    if reason := impossible(mode):
        raise RuntimeError(reason)
    programs = _programs(say)
    operator = _operator(say)
    if mode == "api":
        return Prepared(programs, operator, None)
    debian_packages(DEBIAN, say)
    return Prepared(programs, operator, _store(programs, say))


def _programs(say: Callable[[str], object]) -> Path:
    """One program that is every part of Kubernetes, depending on the name it is called by: compiled and linked once."""
    source = HERE / "go"
    version = re.search(r"k8s\.io/kubernetes (v1\.(\d+)\.\d+)", (source / "go.mod").read_text())
    assert version

    def make(folder: Path) -> None:
        go, reason = go_program()
        if go is None:
            raise RuntimeError(reason)
        say("building Kubernetes from Go modules (about ten minutes, once)")
        values = {"gitVersion": version[1], "gitMajor": "1", "gitMinor": version[2], "gitTreeState": "clean"}
        values |= {"gitCommit": "unknown", "buildDate": "2026-01-01T00:00:00Z"}
        packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        stamps = " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())
        env = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false -mod=readonly"}
        build = ["nice", "-n", "10", go, "build", "-trimpath"]
        folder.mkdir()
        run([*build, "-ldflags", f"-s -w {stamps}", "-o", str(folder / "kubernetes"), "."], cwd=source, env=env)
        run([*build, "-ldflags", "-s -w", "-o", str(folder / "pause"), "./pause"], cwd=source, env=env)
        for name in PROGRAMS:
            (folder / name).symlink_to("kubernetes")

    return cached(f"programs-{SYSTEM}-{key_of(source)}", make)


def _operator(say: Callable[[str], object]) -> Path:
    """The operator in a Python environment of its own: what it needs must not bind the tests' versions."""
    requirements = CHECKOUT / "requirements" / "operator.txt"

    python = f"{sys.base_prefix} {sys.version_info[0]}.{sys.version_info[1]}"
    key = key_of(requirements, text=python)

    def make(link: Path) -> None:
        say("installing the Dask operator (half a minute, once)")
        # An environment cannot be moved, so only the link to it is made last.
        place = CACHE / f"environment-{key}"
        remove(place)
        run([sys.executable, "-m", "venv", "--without-pip", str(place)])
        pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "--quiet"]
        run([*pip, "--require-hashes", "-r", str(requirements)])
        link.symlink_to(place.name)

    return cached(f"operator-{key}", make)


def debian_packages(wanted: Mapping[str, str], say: Callable[[str], object] = lambda line: None) -> None:
    """Install those that are missing.

    :param wanted: a program that each of them brings.
    :raises RuntimeError: one cannot be had.
    """

    def missing() -> list[str]:
        path = f"{os.environ.get('PATH', os.defpath)}:{_PLUGINS}"
        return [package for package, program in wanted.items() if not shutil.which(program, path=path)]

    with locked(CACHE / "debian-packages.lock"):
        if not (packages := missing()):
            return
        say(f"installing Debian packages: {' '.join(packages)}")
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages]
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        try:
            run(install, env=env)
        except RuntimeError:  # the machine's lists of packages are missing or old
            run(["apt-get", "update"], env=env)
            run(install, env=env)
        if packages := missing():
            raise RuntimeError(f"Debian packages are missing: {' '.join(packages)}")


def _store(programs: Path, say: Callable[[str], object]) -> Path:
    """containerd's folder with all images unpacked, so that no start of a node has to."""
    if not shutil.which(PYTHON) or run([PYTHON, "-c", "import sys; print(*sys.version_info[:2])"]) != "3 11\n":
        raise RuntimeError(f"the Dask image needs {PYTHON} to be Debian's Python 3.11")
    images = [pause_image(programs / "pause"), make_dask_image(say=say)]
    key = key_of(text=" ".join(image.name for image in images))
    return cached(f"store-{key}", lambda folder: _unpack(folder, images))


def _unpack(store: Path, images: list[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="containerd-") as state:
        config = Path(state) / "containerd.toml"
        values = {"state": state, "store": str(store), "more_disabled_plugins": '"io.containerd.grpc.v1.cri",'}
        config.write_text(Template((HERE / "conf" / "containerd.toml").read_text()).substitute(values))
        log = Path(state) / "log"
        # A mount namespace with a /run of its own: containerd leaves sockets of its helpers there.
        inside = f"umask 022 && mount -t tmpfs tmpfs /run && exec containerd -c {config} -l warn"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        socket = f"{state}/containerd/containerd.sock"
        try:
            until = time.monotonic() + 30
            while subprocess.run(["ctr", "-a", socket, "version"], capture_output=True, check=False).returncode:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"containerd does not start: {log.read_text()[-500:]}")
                time.sleep(0.1)
            for image in images:
                run(["ctr", "-a", socket, "-n", "k8s.io", "image", "import", str(image)])
        finally:
            process.terminate()
            process.wait(30)
