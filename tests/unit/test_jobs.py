"""What is to run, as a bundle of files: always the same for the same input, and complete."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.jobs import ARCHIVE, Bundle, Job, make_bundle, runtime_archive
from dask_provider.owner import Owner

OWNER = Owner("prod", "flights", "run-1", "run")
SCRIPT = ("work.py", b"print(1)")


def bundle(**fields: Any) -> Bundle:
    program = {} if {"module", "call"} & set(fields) else {"script": SCRIPT}
    return make_bundle(Job(**{**program, **fields}), OWNER, "s3://lake/staging/")


def test_a_bundle_is_a_pure_function_of_its_input() -> None:
    fields = {
        "files": {"b": b"2", "a": b"1"},
        "py_files": {"m.py": b""},
        "env": {"X": "1"},
        "arguments": ("--day", "1"),
    }
    one, two = bundle(**fields), bundle(**{**fields, "files": {"a": b"1", "b": b"2"}})
    assert one.spec_hash == two.spec_hash
    assert one.files == two.files
    code = (
        "from dask_provider.jobs import *; from dask_provider.owner import Owner;"
        f"print(make_bundle(Job(script={SCRIPT!r}), Owner('prod', 'flights', 'run-1', 'run'), 's3://x/').spec_hash)"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == bundle().spec_hash, "in another process, for another staging folder"


@pytest.mark.parametrize(
    "change",
    [
        {"script": ("work.py", b"print(2)")},
        {"script": ("other.py", b"print(1)")},
        {"module": "work"},
        {"arguments": ("a b",)},
        {"arguments": ("a", "b")},
        {"files": {"f.txt": b"1"}},
        {"files": {"f.txt": b"2"}},
        {"py_files": {"m.py": b"1"}},
        {"env": {"A": "1"}},
        {"performance_report": False},
    ],
)
def test_whatever_changes_what_runs_changes_the_hash(change: dict[str, Any]) -> None:
    assert bundle(**change).spec_hash != bundle().spec_hash


def test_a_pickle_may_vary_and_a_new_runtime_is_no_other_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle(call=b"one").spec_hash == bundle(call=b"two").spec_hash
    before = bundle().spec_hash
    monkeypatch.setattr("dask_provider.jobs.runtime_archive", lambda: b"another runtime")
    assert bundle().files[ARCHIVE] == b"another runtime"
    assert bundle().spec_hash == before


def test_names_of_one_attempt() -> None:
    made = bundle()
    assert made.job_id(2) == f"{OWNER.name}-2"
    prefix = f"s3://lake/staging/prod/{OWNER.name}/{OWNER.name}-2/"
    assert (made.results(made.job_id(2)), made.manifest(made.job_id(2))) == (
        prefix + "results/",
        prefix + "manifest.json",
    )
    west = make_bundle(Job(script=SCRIPT), dataclasses.replace(OWNER, instance="west"), "s3://lake/staging/")
    assert west.results("x") != made.results("x"), "two Airflows that share a staging prefix"


def test_job_json_is_all_that_the_runtime_needs() -> None:
    made = bundle(env={"A": "of the job", "B": "b"}, files={"f.txt": b"1"}, py_files={"m.py": b"", "z.zip": b"PK"})
    place = {"scheduler": "tcp://s:1", "tls": None, "min_workers": 2, "ready_timeout": 60, "activity_file": None}
    job = json.loads(made.job_json("j-1", **place, cluster_env={"A": "of the cluster", "C": "c"}))
    assert {name: job[name] for name in place} == place
    assert job["env"] == {"A": "of the job", "B": "b", "C": "c"}
    assert job["program"] == {"kind": "script", "path": "work.py", "arguments": []}
    assert job["py_files"] == ["py_files/m.py", "py_files/z.zip"]
    assert set(made.files) == {ARCHIVE, "work.py", "work/f.txt", "py_files/m.py", "py_files/z.zip"}
    assert (job["job_id"], job["pickled_with"]) == ("j-1", None)


def test_kinds_of_programs() -> None:
    assert Job(module="a.b", arguments=("x",)).program() == {"kind": "module", "module": "a.b", "arguments": ["x"]}
    made = bundle(call=b"pickle")
    assert made.job["program"] == {"kind": "call", "path": "call.pkl"}
    assert made.job["pickled_with"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert made.files["call.pkl"] == b"pickle"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "script, module, callable"),
        ({"script": SCRIPT, "module": "work"}, "script, module, callable"),
        ({"module": "work", "call": b""}, "script, module, callable"),
        ({"script": ("work.py", b" \n")}, "script"),
        ({"module": "work.py;"}, "module"),
        ({"module": "-c"}, "module"),
        ({"script": SCRIPT, "files": {"../evil": b""}}, "files"),
        ({"script": SCRIPT, "files": {"..": b""}}, "files"),
        ({"script": SCRIPT, "py_files": {"wheel.whl": b""}}, "py_files"),
    ],
)
def test_jobs_that_cannot_be(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Job(**fields)
    assert refused.value.field == field


def test_the_runtime_is_one_file_that_runs_without_anything_else(tmp_path: Path) -> None:
    archive = runtime_archive()
    runtime_archive.cache_clear()
    assert runtime_archive() == archive, "byte for byte the same, so that staging it twice is free"
    path = tmp_path / ARCHIVE
    path.write_bytes(archive)
    # -I -S: neither this checkout nor any installed package can be imported.
    done = subprocess.run([sys.executable, "-I", "-S", path, "help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("commands: job JOB.JSON")


def test_arguments_and_environment_may_name_the_job() -> None:
    """The id holds the try that starts it, so what is adopted must not depend on it."""
    job = Job(module="work", arguments=("out/$(DASK_JOB_ID)/a",), env={"OUT": "$(DASK_JOB_ID)"})
    bundle = make_bundle(job, Owner("tests", "dag", "run", "task"), "file:///staging/")
    place = {"scheduler": "tcp://s:1", "tls": None, "min_workers": 1, "ready_timeout": 1, "activity_file": None}
    written = [json.loads(bundle.job_json(job_id, cluster_env={}, **place)) for job_id in ("job-1", "job-2")]
    assert [one["program"]["arguments"] for one in written] == [["out/job-1/a"], ["out/job-2/a"]]
    assert [one["env"]["OUT"] for one in written] == ["job-1", "job-2"]
    assert bundle.job["program"]["arguments"] == ["out/$(DASK_JOB_ID)/a"]
