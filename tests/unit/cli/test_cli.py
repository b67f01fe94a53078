"""The command ``airflow-dask`` itself; its commands have tests of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from dask_provider import __version__
from dask_provider.cli import COMMANDS, main

HELP = """
import json, sys
before = set(sys.modules)  # some are there in every Python of an environment
from dask_provider.cli import main
try:
    main(["--help"])
except SystemExit:
    print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_help_imports_nothing_that_takes_its_time() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    *printed, modules = done.stdout.splitlines()
    heavy = {"airflow", "aiohttp", "asyncio", "dask", "distributed", "fsspec", "upath", "google", "cloudpickle"}
    assert {name.partition(".")[0] for name in json.loads(modules)} & heavy == set()
    for command in COMMANDS:
        assert command.__name__.rpartition(".")[2] in "\n".join(printed)


def test_it_is_installed_and_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    (point,) = entry_points(group="console_scripts", name="airflow-dask")
    assert point.load() is main
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"airflow-dask {__version__}\n"


@pytest.mark.parametrize("line", [[], ["bake"], ["preflight"], ["preflight", "mars"]])
def test_a_wrong_line_shows_how_it_is_used(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 2
    assert "usage: airflow-dask" in capsys.readouterr().err
