"""Hadoop's jars: fetched once by Maven into the cache outside the checkout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.servers.gobuild import CACHE as COMMON_CACHE
from tests.servers.kubernetes.cached import cached, key_of, run

HERE = Path(__file__).resolve().parent
CACHE = COMMON_CACHE / "yarn"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


def hadoop_jars(say: Callable[[str], object] = lambda line: None) -> Path:
    """A folder with all of them (74 MB).

    :raises RuntimeError: they cannot be had here, with the reason.
    """
    java_home()
    pom = HERE / "pom.xml"

    def make(folder: Path) -> None:
        if not shutil.which("mvn"):
            raise RuntimeError("YARN needs Maven: no mvn on PATH")
        say("fetching Hadoop's jars by Maven (a minute, once)")
        # Maven writes a `target` folder beside the pom.xml, so not beside this one.
        scratch = folder.with_suffix(".pom")
        scratch.mkdir(exist_ok=True)
        shutil.copy(pom, scratch)
        options = ["--batch-mode", "--quiet", "--strict-checksums", "-DincludeScope=runtime"]
        run(["mvn", *options, "-f", str(scratch / "pom.xml"), COPY, f"-DoutputDirectory={folder}"])
        shutil.rmtree(scratch)

    return cached(f"jars-{key_of(pom, text=COPY)}", make, CACHE)


def java_home() -> Path:
    """Where this machine's Java is.

    :raises RuntimeError: it has none.
    """
    if not (java := shutil.which("java")):
        raise RuntimeError("YARN needs Java 11 or 17: no java on PATH")
    return Path(java).resolve().parents[1]
