"""``airflow-dask jobs push`` to a real GCS server, a real S3 server and a folder."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from dask_provider import storage
from dask_provider.cli import main
from dask_provider.publish.copying import BLOCK
from fsspec.implementations.local import LocalFileSystem

from tests.servers.gcs import GCSServer
from tests.servers.s3 import S3Server

pytest_plugins = ["tests.servers.gcs", "tests.servers.s3"]
fresh = map("push{}".format, itertools.count())


@pytest.fixture
def buckets(gcs_server: GCSServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """One of each, with the credentials of Airflow connections."""
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", gcs_server.connection())
    monkeypatch.setenv("AIRFLOW_CONN_POOL", s3_server.connection())
    monkeypatch.setenv("AIRFLOW_CONN_STRANGER", s3_server.connection(key="nobody"))
    name = "jobs-of-pipelines"
    return {"gs": f"gs://lake@{gcs_server.make_bucket(name)}", "s3": f"s3://pool@{s3_server.make_bucket(name)}"}


@pytest.fixture(params=["gs", "s3", "file"])
def to(request: pytest.FixtureRequest, buckets: dict[str, str], tmp_path: Path) -> str:
    """A prefix with nothing below it."""
    bucket = buckets.get(request.param)
    return f"{bucket}/{next(fresh)}/jobs/" if bucket else f"{tmp_path}/far/jobs"


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs"
    for name, text in {
        "etl.py": "print(1)\n",
        "report.py": "print(2)\n",
        "sql/orders.sql": "select 1\n",
        ".env": "not a job",
        "__pycache__/etl.cpython-311.pyc": "nor this",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def there(prefix: str) -> dict[str, tuple[bytes, Any]]:
    """Content of every file, and when it was written."""
    root = storage.open_path("to", prefix)
    root.fs.invalidate_cache()
    found = {path: root.fs.info(path) for path in root.fs.find(root.path)}
    start = len(root.path) + 1
    return {
        path[start:]: (root.fs.cat_file(path), info.get("mtime") or info.get("updated") or info["LastModified"])
        for path, info in found.items()
    }


def contents(prefix: str) -> dict[str, bytes]:
    return {name: content for name, (content, _) in there(prefix).items()}


def test_only_what_differs_is_written(jobs: Path, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "push", str(jobs), to, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^(\w+) +(\S+)", told, re.MULTILINE)[:3] == [
        ("new", "etl.py"),
        ("new", "report.py"),
        ("new", "sql/orders.sql"),
    ]
    assert "3 would be written (27 B), 0 unchanged" in told
    assert there(to) == {}

    assert main(["jobs", "push", str(jobs), to]) == 0
    assert "3 written (27 B), 0 unchanged, 0 failed" in capsys.readouterr().out
    first = there(to)
    wanted = {"etl.py": b"print(1)\n", "report.py": b"print(2)\n", "sql/orders.sql": b"select 1\n"}
    assert contents(to) == wanted

    (jobs / "report.py").write_text("print(3)\n")  # of the same size
    (jobs / "etl.py").touch()
    (jobs / "new.py").write_text("")
    (jobs / "sql" / "orders.sql").unlink()
    assert main(["jobs", "push", str(jobs), to]) == 0
    told = capsys.readouterr().out
    states = dict(reversed(pair) for pair in re.findall(r"^(new|changed|unchanged) +(\S+)", told, re.MULTILINE))
    assert states == {"etl.py": "unchanged", "report.py": "changed", "new.py": "new"}
    assert "2 written (9 B), 1 unchanged, 0 failed" in told
    assert "only there, and left alone: sql/orders.sql" in told
    assert contents(to) == {**wanted, "report.py": b"print(3)\n", "new.py": b""}
    second = there(to)
    assert [name for name in first if second[name] == first[name]] == ["etl.py", "sql/orders.sql"], "not written again"

    assert main(["jobs", "push", str(jobs / "etl.py"), to]) == 0
    assert "0 written (0 B), 1 unchanged" in capsys.readouterr().out
    assert there(to) == second


def test_what_is_too_large_for_one_request(jobs: Path, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = jobs / "model.bin"
    for byte in (b"1", b"2"):
        model.write_bytes(b"0" * (BLOCK + 1) + byte)
        assert main(["jobs", "push", str(model), to]) == 0
        assert "1 written (8.0 MiB), 0 unchanged" in capsys.readouterr().out
        assert contents(to) == {"model.bin": model.read_bytes()}
        assert main(["jobs", "push", str(model), to]) == 0
        assert "0 written (0 B), 1 unchanged" in capsys.readouterr().out


def test_how_dags_get_there(jobs: Path, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["jobs", "push", str(jobs), to])
    told = capsys.readouterr().out
    assert ('DAGs: gcloud storage cp dags/*.py "$(terraform output -raw composer_dag_gcs_prefix)/"' in told) == (
        to.startswith("gs://")
    )
    for prefix in ("gs://acme-composer/dags", "gs://acme-composer/dags/"):
        assert main(["jobs", "push", str(jobs), to, "--dry-run", "--dags", prefix]) == 0
        assert capsys.readouterr().out.endswith("\nDAGs: gcloud storage cp dags/*.py gs://acme-composer/dags/\n")


def test_one_that_cannot_be_written(
    jobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are, an older one stays whole, and the next push does the rest."""
    to = tmp_path / "far"
    assert main(["jobs", "push", str(jobs), str(to)]) == 0
    for name in ("etl.py", "report.py"):
        (jobs / name).write_text("print('changed')\n")
    put_file = LocalFileSystem.put_file

    def breaks(self: LocalFileSystem, source: str, target: str, **kwargs: Any) -> None:
        if source.endswith("etl.py"):
            Path(target).write_text("half of")
            raise ConnectionResetError("by peer")
        put_file(self, source, target, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", breaks)
        assert main(["jobs", "push", str(jobs), str(to)]) == 1
    told = capsys.readouterr()
    assert "airflow-dask: etl.py: ConnectionResetError: by peer" in told.err
    assert "1 written (17 B), 1 unchanged, 1 failed" in told.out
    assert contents(f"{to}/")["etl.py"] == b"print(1)\n"
    assert set(contents(f"{to}/")) == {"etl.py", "report.py", "sql/orders.sql"}
    assert main(["jobs", "push", str(jobs), str(to)]) == 0
    assert "1 written (17 B), 2 unchanged, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none", "{tmp}/to"], "source: '{tmp}/none' is not possible; allowed: a folder with jobs, or one file"),
        (["{tmp}/empty", "{tmp}/to"], "source: '{tmp}/empty' is not possible; allowed: a folder with files"),
        (["{tmp}/jobs", "to"], "destination: 'to' is not possible; allowed: an absolute path"),
        (["{tmp}/jobs", "{tmp}/jobs/sql"], "allowed: a place outside of {tmp}/jobs"),
        (
            ["{tmp}/jobs", "ftps://x/y"],
            "destination: 'ftps://x/y' is not possible; allowed: an absolute path, file:///",
        ),
        (["{tmp}/jobs", "{tmp}/to", "--dags", "gs://b/dagsdags"], "--dags: 'gs://b/dagsdags' is not possible"),
        (["{tmp}/jobs", "s3://stranger@jobs-of-pipelines/"], "destination: 's3://stranger@jobs-of-pipelines/' is not"),
        (["{tmp}/jobs", "gs://lake@no-such-bucket/jobs/"], "destination: 'gs://lake@no-such-bucket/jobs/' is not"),
    ],
)
def test_wrong_input(
    jobs: Path,
    tmp_path: Path,
    buckets: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["jobs", "push", *(text.format(tmp=tmp_path) for text in arguments)]) == 2
    told = capsys.readouterr().err
    assert message.format(tmp=tmp_path) in told
    assert told.count("\n") == 1
    assert not (tmp_path / "to").exists()
