"""One output per input on real S3 and GCS servers: what is there is asked in listings, one step publishes a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dask_provider import storage
from dask_provider.publish.files import FileWork, find_inputs, finished, forget_unfinished, plan_outputs, publish

from tests.conftest import require

pytest_plugins = ["tests.servers.s3", "tests.servers.gcs"]
JOB = "dask-files-jan-run-0123456789-1"


@dataclass(frozen=True)
class Bucket:
    """:param scheme: of its URIs.
    :param folder: that is the bucket.
    :param many: number of files to list; a listing gives a thousand at a time, and to write them takes its time.
    """

    scheme: str
    folder: Path
    many: int

    def fill(self, folder: str, names: list[str]) -> None:
        """Write a byte into each file."""
        if self.scheme == "s3":
            (self.folder / folder).mkdir(exist_ok=True)
            for name in names:
                (self.folder / folder / name).write_bytes(b"x")
        else:  # this server keeps more of a file than its content
            place = storage.open_path("files", f"gs://lake@files/{folder}")
            place.fs.pipe({f"{place.path}/{name}": b"x" for name in names})

    def works(self) -> list[FileWork]:
        return plan_outputs(
            find_inputs(f"{self.scheme}://lake@files/in/*.csv"), f"{self.scheme}://lake@files/out/{{stem}}.parquet"
        )


@pytest.fixture(params=[("s3", "s3fs", "s3_server", 1500), ("gs", "gcsfs", "gcs_server", 150)], ids=["s3", "gcs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """The bucket ``files``, by the connection ``lake``."""
    scheme, library, fixture, many = request.param
    require(library, find_spec(library) is not None)
    server = request.getfixturevalue(fixture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_LAKE", server.connection())
        yield Bucket(scheme, server.folder / server.make_bucket("files"), many)


@pytest.fixture
def calls(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests by their name."""
    seen: Counter[str] = Counter()
    if bucket.scheme == "s3":
        from s3fs import S3FileSystem

        paging, call = S3FileSystem._iterdir, S3FileSystem._call_s3

        async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
            seen["file" if method == "head_object" else method] += 1
            return await call(self, method, *args, **kwargs)

        def listed(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen["listing"] += 1
            return paging(self, *args, **kwargs)

        monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
        monkeypatch.setattr(S3FileSystem, "_iterdir", listed)
    else:
        from gcsfs import GCSFileSystem

        names = {"b/{}/o": "listing", "b/{}/o/{}": "file"}
        request = GCSFileSystem._request

        async def requested(self: Any, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
            seen[names.get(path, path)] += 1
            return await request(self, method, path, *args, **kwargs)

        monkeypatch.setattr(GCSFileSystem, "_request", requested)
    return seen


def test_listings_and_no_request_per_file(bucket: Bucket, calls: Counter[str]) -> None:
    for folder, ending, count in (("in", "csv", bucket.many), ("out", "parquet", bucket.many - 2)):
        bucket.fill(folder, [f"{n:04}.{ending}" for n in range(count)])
    calls.clear()
    planned = bucket.works()
    done = finished(planned)
    assert (len(planned), len(done)) == (bucket.many, bucket.many - 2)
    assert planned[0].input == f"{bucket.scheme}://files/in/0000.csv", "no connection: it is for a program"
    assert planned[0].output == f"{bucket.scheme}://lake@files/out/0000.parquet"
    assert calls["listing"] >= 2
    assert calls.total() < 10, calls
    assert calls["file"] <= 1


def test_publish(bucket: Bucket) -> None:
    bucket.fill("in", ["jan.csv"])
    (jan,) = [work for work in bucket.works() if work.input.endswith("jan.csv")]
    words = jan.words(JOB)
    assert words["output"] == f"{bucket.scheme}://files/out/_temporary/{JOB}/jan.parquet"
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
