"""What a task imports, every task pays: nothing heavy comes with the operators, and no Airflow with the runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dask_provider
import pytest

PACKAGE = Path(dask_provider.__file__).parent
HEAVY = [
    "distributed",
    "dask",
    "fsspec",
    "upath",
    "cloudpickle",
    "aiohttp",
    "httpx",
    "kubernetes",
    "kubernetes_asyncio",
    "kr8s",
    "google",
    "boto3",
    "botocore",
    "asyncssh",
    "pandas",
    "numpy",
    "pyarrow",
    "bokeh",
]
AIRFLOW = """
try:
    from airflow.sdk import BaseOperator
except ImportError:
    from airflow.models.baseoperator import BaseOperator
"""


def imported(*statements: str) -> list[set[str]]:
    """Modules that are there after each statement, in one fresh Python."""
    show = "print(json.dumps(sorted(sys.modules)))"
    code = "\n".join(["import json, sys", *(f"{statement}\n{show}" for statement in statements)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def among(modules: set[str], packages: list[str]) -> set[str]:
    return {module for module in modules if module.partition(".")[0] in packages}


@pytest.mark.parametrize(
    "module",
    [
        "operators.cluster",
        "operators.job",
        "operators.results",
        "operators.reaper",
        "operators.kubernetes_job",
        "operators.files",
        "luigi",
        "triggers.cluster",
        "triggers.job",
        "decorators",
        "task_groups",
        "links",
    ],
)
def test_what_a_dag_file_imports_brings_nothing_heavy(module: str) -> None:
    before, after = imported(AIRFLOW, f"import dask_provider.{module}, dask_provider.clusters")
    assert f"dask_provider.{module}" in after
    assert among(after - before, HEAVY) == set()


def test_specs_import_not_even_airflow() -> None:
    before, after = imported("", "import dask_provider.clusters, dask_provider.provider_info, dask_provider.handles")
    assert among(after - before, ["airflow", "asyncio", "http", *HEAVY]) == set()


def test_the_runtime_never_imports_airflow_and_dask_only_when_a_job_runs() -> None:
    modules = sorted(path.stem for path in (PACKAGE / "runtime").glob("*.py") if path.stem != "__init__")
    assert {"job", "keeper", "program", "dask_side"} <= set(modules)
    before, after = imported("", "import " + ", ".join(f"dask_provider.runtime.{name}" for name in modules))
    assert among(after - before, ["airflow", *HEAVY]) == set()
    ours = among(after - before, ["dask_provider"])
    assert {name for name in ours if not name.startswith("dask_provider.runtime")} <= {"dask_provider"}


def test_the_operators_package_gives_every_name_and_imports_only_what_is_asked_for() -> None:
    before, after = imported(AIRFLOW, "import dask_provider.operators")
    assert after - before <= {"dask_provider", "dask_provider.operators"}
    from dask_provider import operators

    assert [name for name in operators.__all__ if getattr(operators, name).__name__ != name] == []
    with pytest.raises(AttributeError, match="DaskBakeOperator"):
        operators.DaskBakeOperator  # noqa: B018
