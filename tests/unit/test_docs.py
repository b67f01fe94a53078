"""README and docs say nothing that is not so: their code is run, their links, options, places and targets exist."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from importlib.metadata import entry_points, metadata
from pathlib import Path
from typing import Any

import pytest
from dask_provider import operators
from dask_provider._compat import AIRFLOW_3
from dask_provider.clusters import ExistingCluster, KubernetesCluster, LocalCluster, TemporaryClusterSpec
from dask_provider.errors import InvalidInput
from dask_provider.owner import Owner
from dask_provider.provider_info import get_provider_info

if AIRFLOW_3:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG
else:
    from airflow import DAG
    from airflow.models.dagbag import DagBag

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
OPTIONS = get_provider_info()["config"]["dask"]["options"]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)$", re.MULTILINE)
FIRST_COLUMN = re.compile(r"^\| \[?`([a-z_]+)`", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_blocks() -> list[Any]:
    found = []
    for page in PAGES:
        for number, block in enumerate(FENCE.finditer(page.read_text()), 1):
            if block["language"] == "python":
                found.append(pytest.param(textwrap.dedent(block["code"]), id=f"{name_of(page)}-{number}"))
    return found


def without_code(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of any level."""
    return re.split(r"^#+ ", page.read_text().partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def for_this_airflow(code: str) -> str:
    if AIRFLOW_3:
        return code
    code = re.sub(
        r"from airflow\.sdk import DAG, task\b", "from airflow.sdk import DAG\nfrom airflow.sdk import task", code
    )
    code = code.replace("from airflow.sdk import DAG", "from airflow import DAG")
    return code.replace("from airflow.sdk import task", "from airflow.decorators import task")


def parse(code: str, folder: Path) -> Any:
    """The only DAG of a file, as Airflow's own parser finds it."""
    (folder / "dag.py").write_text(for_this_airflow(code))
    bag = DagBag(str(folder)) if AIRFLOW_3 else DagBag(str(folder), include_examples=False)
    assert not bag.import_errors, bag.import_errors
    (dag,) = bag.dags.values()
    return dag


def readme_dag() -> str:
    (code,) = [
        block.values[0] for block in python_blocks() if block.id.startswith("README") and "DAG(" in block.values[0]
    ]
    return code


@pytest.mark.parametrize("code", python_blocks())
def test_python_code_runs(code: str, tmp_path: Path) -> None:
    compiled = compile(code, "block", "exec", dont_inherit=True)
    if "with DAG(" in code:
        assert parse(code, tmp_path).tasks
    elif re.search(r"^\w*(Operator|Cluster)\(", code, re.MULTILINE):
        # A fragment: what stands around it in the text stands around it here.
        names = {name: getattr(operators, name) for name in operators.__all__}
        with DAG("fragment", schedule=None):
            create = operators.DaskCreateClusterOperator(task_id="create", cluster=LocalCluster())
            run = operators.DaskJobOperator(task_id="before", cluster=create.output, module="json.tool")
            exec(compiled, names | {"cluster": create.output, "run": run})


def test_the_dag_of_the_readme_is_the_picture_of_the_readme(tmp_path: Path) -> None:
    dag = parse(readme_dag(), tmp_path)
    create, run, delete = (dag.get_task(f"etl.{name}") for name in ("create_cluster", "run", "delete_cluster"))
    done = "etl.work_done"
    assert {task.task_id for task in dag.tasks} == {create.task_id, run.task_id, delete.task_id, done, "store"}
    assert create.is_setup
    assert delete.is_teardown
    assert run.upstream_task_ids == {create.task_id}
    assert run.downstream_task_ids == {delete.task_id, done, "store"}
    assert dag.get_task("store").downstream_task_ids == set()
    assert 15 <= len(readme_dag().splitlines()) <= 30


def test_the_place_that_the_docs_write_keeps_the_contract() -> None:
    names: dict[str, Any] = {"__name__": "acme_dask"}
    blocks = [block["code"] for block in FENCE.finditer((DOCS / "new-place.md").read_text())]
    for code in blocks:
        if "class Acme" in code:
            exec(compile(code, "block", "exec", dont_inherit=True), names)
    spec, hook = names["AcmeCluster"](workers=(1, 4), memory="1 GiB"), names["AcmeHook"]()
    planned = hook.plan(spec, Owner("prod", "dag", "run", "task"))["body"]
    assert (planned["workers"], planned["memory"], planned["labels"]["instance"]) == ([1, 4], 2**30, "prod")
    with pytest.raises(InvalidInput, match="north or south"):
        names["AcmeCluster"](zone="east")
    record = planned | {"uid": "u", "created": "2026-01-01T00:00:00+00:00", "expires": "2026-01-02T00:00:00+00:00"}
    handle = names["cluster_handle"](record)
    assert (handle.attempt, handle.spec_hash) == (1, spec.hash())
    assert Owner.from_labels(handle.owner) == Owner("prod", "dag", "run", "task")


def test_every_option_is_documented_and_no_other() -> None:
    page = DOCS / "configuration.md"
    assert set(FIRST_COLUMN.findall(section(page, "The section `[dask]`"))) == set(OPTIONS)
    for name, option in OPTIONS.items():
        (row,) = re.findall(rf"^\| \[`{name}`\].*$", page.read_text(), re.MULTILINE)
        assert not option["default"] or option["default"] in row
        assert section(page, name).strip(), f"nothing is told about {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"\[dask\] ([a-z_]+)\b", text) + re.findall(
        r"`dask\.(instance|state_dir|staging|sync\w+)`", text
    )
    named += [name.lower() for name in re.findall(r"AIRFLOW__DASK__([A-Z_]+)", text)]
    assert set(named) <= set(OPTIONS)


def test_fields_of_specs() -> None:
    def fields(*specs: Any) -> set[str]:
        return {field.name for spec in specs for field in dataclasses.fields(spec)}

    places = DOCS / "places"
    shared = fields(TemporaryClusterSpec)
    listed = section(places / "index.md", "Fields that every place has")
    listed += section(places / "index.md", "Fields of clusters that we make")
    assert set(FIRST_COLUMN.findall(listed)) == shared
    assert set(FIRST_COLUMN.findall(section(places / "local.md", "Local"))) == fields(LocalCluster) - shared
    assert set(FIRST_COLUMN.findall(section(places / "existing.md", "Existing"))) == fields(ExistingCluster) - shared
    kubernetes = section(places / "kubernetes.md", "Kubernetes")
    assert set(FIRST_COLUMN.findall(kubernetes)) == fields(KubernetesCluster) - shared


@pytest.mark.parametrize("page", [README, DOCS / "places" / "index.md"], ids=name_of)
def test_places_that_work_are_installed_and_all_others_are_planned(page: Path) -> None:
    rows = re.findall(r"^\| \[?`([a-z]+)`.*\| (works|preview|planned) \|$", page.read_text(), re.MULTILINE)
    assert {name for name, state in rows if state != "planned"} == {
        point.name for point in entry_points(group="airflow_dask.places")
    }
    assert {name for name, _ in rows} == {"local", "existing", "kubernetes", "eks", "dataproc", "slurm"}


def test_extras_of_the_readme() -> None:
    named = {
        name
        for row in re.findall(r"^\| (`.*?`) \|", section(README, "Installation"), re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert named == set(metadata("airflow-provider-dask").get_all("Provides-Extra"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_internal_links_resolve(page: Path) -> None:
    for target in LINK.findall(without_code(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(heading) for heading in HEADING.findall(without_code(file))}, target


@pytest.mark.parametrize("page", [page for page in PAGES if DOCS in page.parents], ids=name_of)
def test_every_page_is_in_the_menu(page: Path) -> None:
    assert f" {page.relative_to(DOCS)}\n" in (ROOT / "mkdocs.yml").read_text()


def slug(heading: str) -> str:
    """The anchor that MkDocs gives a heading."""
    text = re.sub(r"[`*]", "", heading).lower()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip())
