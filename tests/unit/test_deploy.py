"""Files that other machines run, checked without those: the image of one job per file, the pipeline of jobs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from dask_provider import cli

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "images" / "preprocess" / "Dockerfile"
PIPELINE = ROOT / ".github" / "workflows" / "jobs.yml"
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", DOCKERFILE.read_text(), re.MULTILINE)


def test_what_the_image_copies_is_there_and_what_it_runs_is_copied() -> None:
    copied = {words[1]: words[0] for words in (line.split() for line in instructions("COPY"))}
    assert [source for source in copied.values() if not (ROOT / source).is_file()] == []
    (install,) = instructions("RUN")
    assert shlex.split(install)[-1] in copied
    (command,) = instructions("CMD")
    module = yaml.safe_load(command)[2]
    assert copied[f"/app/{module}.py"] == "jobs/preprocess.py"


def test_the_image_has_the_versions_of_the_project() -> None:
    """Those of the tests, which were resolved and are tested together."""
    (base,) = instructions("FROM")
    python = base.partition(":")[2].partition("-")[0]
    assert tuple(map(int, python.split("."))) >= (3, 11)  # what the pins below are for
    pinned = {
        name: version
        for name, version, marker in PIN.findall((ROOT / "requirements" / "test.txt").read_text())
        if "< '3.11'" not in marker
    }
    wanted = {name: version for name, version, _ in PIN.findall((DOCKERFILE.parent / "requirements.txt").read_text())}
    assert wanted.keys() == {"pandas", "pyarrow", "adlfs", "gcsfs", "s3fs"}, "and the stores of the page From Luigi"
    assert wanted == {name: pinned[name] for name in wanted}


def test_the_pipeline_pushes_jobs_without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = PIPELINE.read_text()
    workflow = yaml.safe_load(text)
    assert "jobs/**" in workflow[True]["push"]["paths"]  # YAML reads "on" as true
    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in text
    steps = workflow["jobs"]["upload"]["steps"]
    (signed_in,) = [step["with"] for step in steps if step.get("uses", "").startswith("google-github-actions/auth@")]
    assert signed_in.keys() == {"workload_identity_provider", "service_account"}
    outputs = "".join(path.read_text() for path in (ROOT / "terraform" / "gcp" / "envs" / "dev").glob("outputs.tf"))
    for variable, output in re.findall(r"^#   (\w+) +(\w+)$", text, re.MULTILINE):
        assert f"vars.{variable} " in text or f"vars.{variable}\n" in text
        assert f'output "{output}"' in outputs
    (push,) = [step["run"] for step in steps if step.get("run", "").startswith("airflow-dask ")]
    monkeypatch.chdir(ROOT)
    line = [word.replace("gs://${{ vars.STAGING_BUCKET }}", str(tmp_path)) for word in shlex.split(push)[1:]]
    assert cli.main(line) == 0
    assert {path.name for path in (tmp_path / "jobs").iterdir()} >= {"preprocess.py", "dask_yarn_example.py"}


def test_the_page_of_composer_shows_this_pipeline() -> None:
    page = (ROOT / "docs" / "running-on" / "composer.md").read_text()
    assert f"```yaml\n{PIPELINE.read_text()}```\n" in page
