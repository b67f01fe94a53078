"""One output per input on a real S3 server: what is there is asked in listings, and one step publishes a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dask_provider import storage
from dask_provider.publish.files import FileWork, find_inputs, finished, forget_unfinished, plan_outputs, publish

from tests.conftest import require
from tests.servers.s3 import S3Server

pytest_plugins = ["tests.servers.s3"]
FILES = 1500  # a listing gives a thousand at a time
JOB = "dask-files-jan-run-0123456789-1"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests of s3fs by their name."""
    require("s3fs", find_spec("s3fs") is not None)
    from s3fs import S3FileSystem

    seen: Counter[str] = Counter()
    paging = S3FileSystem._iterdir
    call = S3FileSystem._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        seen[method] += 1
        return await call(self, method, *args, **kwargs)

    def listed(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen["listing"] += 1
        return paging(self, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    monkeypatch.setattr(S3FileSystem, "_iterdir", listed)
    return seen


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Path]:
    """The folder that is the bucket ``files``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_LAKE", s3_server.connection())
        yield s3_server.folder / s3_server.make_bucket("files")


def works() -> list[FileWork]:
    return plan_outputs(find_inputs("s3://lake@files/in/*.csv"), "s3://lake@files/out/{stem}.parquet")


def test_listings_and_no_request_per_file(bucket: Path, calls: Counter[str]) -> None:
    for folder, ending, count in (("in", "csv", FILES), ("out", "parquet", FILES - 2)):
        (bucket / folder).mkdir()
        for n in range(count):
            (bucket / folder / f"{n:04}.{ending}").write_bytes(b"x")
    planned = works()
    done = finished(planned)
    assert (len(planned), len(done)) == (FILES, FILES - 2)
    assert planned[0].input == "s3://files/in/0000.csv", "no connection: it is for a program"
    assert planned[0].output == "s3://lake@files/out/0000.parquet"
    assert calls["listing"] >= 2
    assert calls.total() < 10, calls
    assert calls["head_object"] <= 1


def test_publish(bucket: Path) -> None:
    (bucket / "in").mkdir(exist_ok=True)
    (bucket / "in" / "jan.csv").write_bytes(b"x")
    (jan,) = [work for work in works() if work.input.endswith("jan.csv")]
    words = jan.words(JOB)
    assert words["output"] == f"s3://files/out/_temporary/{JOB}/jan.parquet"
    written = storage.open_path("output", words["output"], "lake")
    written.fs.pipe_file(written.path, b"all of it")
    assert finished([jan]) == set()
    assert publish(jan, JOB) == 9
    assert finished([jan]) == {"jan.parquet"}
    assert storage.read_bytes("output", jan.output) == b"all of it"
    assert publish(jan, JOB) is None
    written.fs.pipe_file(written.path, b"half")
    assert forget_unfinished([jan], {JOB.removesuffix("-1")}) == 1
    assert finished([jan]) == {"jan.parquet"}
