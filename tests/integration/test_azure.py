"""Results and files on a real Azure Blob Storage server, with an Airflow connection."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.publish import files, load_source, publish
from dask_provider.results import StoredResult, find_stored

from tests.publishing import assert_stored, below, kill_everywhere, leave_result, publish_in_vain, read_result, reader
from tests.servers.azure import AzureServer

pytest_plugins = ["tests.servers.azure"]
fresh = map("run{}".format, itertools.count())
JOB = "dask-files-jan-run-0123456789-1"


@pytest.fixture(scope="module")
def lake(azure_server: AzureServer) -> Iterator[str]:
    """URI of an empty container, by the connection ``lake``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_LAKE", azure_server.connection())
        patch.setenv("AIRFLOW_CONN_LAKE_TOO", azure_server.connection())
        yield f"abfs://lake@{azure_server.make_container('lake-of-tests')}"


@pytest.fixture(scope="module")
def manifests(lake: str) -> dict[int, str]:
    return {number: leave_result(f"{lake}/staging", number) for number in (1, 2, 3)}


@pytest.fixture
def to(lake: str) -> str:
    return f"{lake}/stored/{next(fresh)}/"


def store(manifest: str, destination: str) -> StoredResult:
    return publish(load_source(manifest), destination)


def test_publish_replace_and_publish_again(manifests: dict[int, str], to: str, tmp_path: Path) -> None:
    assert find_stored(to) is None
    requests = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
    assert not requests.isEnabledFor(logging.INFO), "a task's log is not full of them"
    first = store(manifests[1], to)
    assert below(to) == {"_manifest.json", "summary.json", "daily/part.0.parquet", "daily/deep/part.1.parquet"}
    assert_stored(to, 1)
    assert store(manifests[1], to) == first == find_stored(to)
    store(manifests[2], to.replace("lake@", "lake_too@"))
    assert_stored(to, 2)
    store(leave_result(str(tmp_path), 1, 20_000_000), to)  # in blocks
    assert_stored(to, 1)
    stored = find_stored(to)
    assert stored is not None
    store(stored.manifest, str(tmp_path / "back"))
    assert_stored(str(tmp_path / "back"), 1)


def test_what_cannot_be_stored_or_stored_to(lake: str, manifests: dict[int, str], to: str) -> None:
    mine = storage.open_path("x", f"{to}precious.txt")
    mine.fs.pipe_file(mine.path, b"mine")
    with pytest.raises(InvalidInput, match=r"destination: .*it holds precious\.txt"):
        store(manifests[2], to)
    with pytest.raises(InvalidInput, match=r"destination: .*there is none with the id 'nowhere'"):
        store(manifests[1], "abfs://nowhere@lake-of-tests/x")
    with pytest.raises(InvalidInput, match=r"destination: .*a place to write to and delete from"):
        store(manifests[1], "abfs://lake@no-such-container/x")
    with pytest.raises(InvalidInput, match=r"script: .*a file that exists"):
        storage.read_bytes("script", f"{lake}/jobs/nothing.py")
    assert read_result(to) is None


def test_cut_off_at_every_request(manifests: dict[int, str], to: str) -> None:
    """Nothing gets through from the n-th request on, a reader looking on; the next store finishes, leaves nothing."""
    with reader(to.replace("lake@", "lake_too@")):
        kills = kill_everywhere(publish_in_vain, manifests, to, 12)
    assert kills >= 4


def test_one_output_for_each_input(lake: str) -> None:
    from azure.storage.blob.aio import BlobClient

    count = 30

    def works() -> list[files.FileWork]:
        return files.plan_outputs(files.find_inputs(f"{lake}/in/*.csv"), f"{lake}/out/{{stem}}.parquet")

    folder = storage.open_path("inputs", lake)
    for name in (*(f"in/{n:03}.csv" for n in range(count)), *(f"out/{n:03}.parquet" for n in range(1, count))):
        folder.fs.pipe_file(f"{folder.path}/{name}", b"x")
    planned = works()
    assert planned[0].input == "abfs://lake-of-tests/in/000.csv", "no connection: it is for a program"
    assert (len(planned), len(files.finished(planned))) == (count, count - 1)
    (first,) = [work for work in planned if work.path not in files.finished(planned)]
    written = storage.open_path("output", first.words(JOB)["output"], "lake")
    written.fs.pipe_file(written.path, b"all of it")
    assert first.path not in files.finished(works())
    answers = ["aborted"]
    look = BlobClient.get_blob_properties

    async def slow(client: BlobClient, **options: Any) -> Any:
        found = await look(client, **options)
        if client.blob_name == "out/000.parquet" and answers:
            found.copy.status = answers.pop(0)
        return found

    with pytest.MonkeyPatch.context() as patch:  # this server copies at once; Azure may take its time
        patch.setattr(BlobClient, "get_blob_properties", slow)
        with pytest.raises(OSError, match=r"could not copy .*: aborted"):
            files.publish(first, JOB)
        assert first.path not in files.finished(works()), "what Azure leaves of it is gone"
        answers += ["pending", "pending"]
        assert files.publish(first, JOB) == 9
    assert not answers
    assert files.finished(works()) == {work.path for work in planned}
    assert storage.read_bytes("output", first.output) == b"all of it"
    assert files.publish(first, JOB) is None
    written.fs.pipe_file(written.path, b"half")
    assert files.forget_unfinished([first], {JOB.removesuffix("-1")}) == 1
    assert below(f"{lake}/out") == {work.path for work in planned}
