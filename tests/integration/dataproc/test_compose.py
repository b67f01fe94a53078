"""The emulator for one's own Airflow: that its compose file starts what the tests start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
PIN = re.compile(r"^([a-z0-9-]+)==", re.MULTILINE)


def test_the_emulator_in_compose_is_the_one_of_the_tests() -> None:
    file = ROOT / "tests" / "servers" / "dataproc" / "compose.yaml"
    services = yaml.safe_load(file.read_text())["services"]
    (version,) = re.findall(r'^VERSION = "(.+)"$', (ROOT / "tests" / "servers" / "gcs.py").read_text(), re.MULTILINE)
    assert services["gcs"]["image"].rpartition(":")[2] == version
    (mounted,) = services["dataproc"]["volumes"]
    assert (file.parent / mounted.split(":")[0]).resolve() == ROOT
    install, _, run = services["dataproc"]["command"][-1].partition(" && exec ")
    constraint, *packages = install.split("--constraint ")[1].split()
    pinned = set(PIN.findall((ROOT / constraint).read_text()))
    assert packages
    assert set(packages) <= pinned
    done = subprocess.run([sys.executable, *run.split()[1:], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {word for word in run.split() if word.startswith("--")} <= set(re.findall(r"--\w+", done.stdout))
