"""Publishing to a real GCS server, with an Airflow connection."""

import itertools
from importlib.util import find_spec

import pytest
from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.publish import load_source, publish
from dask_provider.publish.copying import Copier
from dask_provider.results import find_stored

from tests.conftest import require
from tests.publishing import assert_stored, below, kill_everywhere, leave_result, publish_in_vain, read_result, reader

pytest_plugins = ["tests.servers.gcs"]
fresh = map("run{}".format, itertools.count())


@pytest.fixture(scope="module")
def lake(gcs_server):
    """URI of an empty bucket, by the connection ``lake``."""
    require("gcsfs", find_spec("gcsfs") is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_LAKE", gcs_server.connection())
        patch.setenv("AIRFLOW_CONN_LAKE_TOO", gcs_server.connection())
        yield f"gs://lake@{gcs_server.make_bucket('lake-of-tests')}"


@pytest.fixture(scope="module")
def manifests(lake):
    return {number: leave_result(f"{lake}/staging", number) for number in (1, 2, 3)}


@pytest.fixture
def to(lake):
    return f"{lake}/stored/{next(fresh)}/"


def store(manifests, number, destination, **options):
    return publish(load_source(manifests[number]), destination, **options)


def test_publish_replace_and_publish_again(manifests, to, monkeypatch, tmp_path):
    streamed = []
    stream = Copier._stream
    monkeypatch.setattr(Copier, "_stream", lambda self, file, *a: streamed.append(file.path) or stream(self, file, *a))
    assert find_stored(to) is None
    first = store(manifests, 1, to)
    assert below(to) == {"_manifest.json", "summary.json", "daily/part.0.parquet", "daily/deep/part.1.parquet"}
    assert_stored(to, 1)
    copied = []
    assert store(manifests, 1, to, progress=lambda *done: copied.append(done)) == first == find_stored(to)
    assert not copied
    second = store(manifests, 2, to.replace("lake@", "lake_too@"))
    assert second.uri.endswith(f"/v-{second.version}/")
    assert_stored(to, 2)
    assert not streamed  # the store copied by itself
    store({1: leave_result(str(tmp_path), 1, 20_000_000)}, 1, to)
    assert_stored(to, 1)
    store({1: find_stored(to).manifest}, 1, str(tmp_path / "back"))
    assert_stored(str(tmp_path / "back"), 1)


def test_what_cannot_be_stored_or_stored_to(lake, manifests, to):
    broken = leave_result(f"{lake}/broken", 2)
    store(manifests, 1, to)
    damaged = storage.open_path("x", f"{lake}/broken/results-2/daily/part.0.parquet")
    damaged.fs.pipe_file(damaged.path, bytes(3000))
    with pytest.raises(InvalidInput, match=r"source: .*part\.0\.parquet.*was changed or damaged"):
        store({2: broken}, 2, to)
    assert_stored(to, 1)
    mine = storage.open_path("x", f"{to}precious.txt")
    mine.fs.pipe_file(mine.path, b"mine")
    with pytest.raises(InvalidInput, match=r"destination: .*it holds precious\.txt"):
        store(manifests, 2, to)
    assert read_result(to) == 1
    with pytest.raises(InvalidInput, match=r"destination: .*there is none with the id 'nowhere'"):
        store(manifests, 1, "gs://nowhere@lake-of-tests/x")
    with pytest.raises(InvalidInput, match=r"destination: .*a place to write to and delete from"):
        store(manifests, 1, "gs://lake@no-such-bucket/x")
    with pytest.raises(InvalidInput, match=r"script: .*a file that exists"):
        storage.read_bytes("script", f"{lake}/jobs/nothing.py")


def test_cut_off_at_every_request(manifests, to):
    """Nothing gets through from the n-th request on, a reader looking on; the next store finishes, leaves nothing."""
    with reader(to.replace("lake@", "lake_too@")):
        kills = kill_everywhere(publish_in_vain, manifests, to, 25)
    assert kills >= 10
