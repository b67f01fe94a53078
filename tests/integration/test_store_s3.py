"""Publishing to a real S3 server, with the credentials of Airflow connections."""

import itertools
import json
import threading
from importlib.util import find_spec

import pytest
from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.publish import load_source, publish
from dask_provider.publish.copying import Copier
from dask_provider.publish.objects import StoreTakenOver
from dask_provider.results import find_stored

from tests.conftest import require
from tests.publishing import (
    Publisher,
    assert_stored,
    below,
    kill_at_random,
    kill_everywhere,
    leave_result,
    publish_in_vain,
    read_result,
    reader,
)

pytest_plugins = ["tests.servers.s3"]
fresh = map("run{}".format, itertools.count())


@pytest.fixture(scope="module")
def lake(s3_server):
    """URI of an empty bucket, by the connection ``lake``; ``stranger`` is one with a key the server does not know."""
    require("s3fs", find_spec("s3fs") is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_LAKE", s3_server.connection())
        patch.setenv("AIRFLOW_CONN_STRANGER", s3_server.connection(key="nobody"))
        patch.setenv("AIRFLOW_CONN_LAKE_TOO", s3_server.connection())
        yield f"s3://lake@{s3_server.make_bucket('lake-of-tests')}"


@pytest.fixture(scope="module")
def manifests(lake):
    return {number: leave_result(f"{lake}/staging", number) for number in (1, 2, 3)}


@pytest.fixture
def to(lake):
    return f"{lake}/stored/{next(fresh)}/"


def store(manifests, number, destination, **options):
    return publish(load_source(manifests[number]), destination, **options)


def test_publish_replace_and_publish_again(lake, manifests, to):
    assert find_stored(to) is None
    first = store(manifests, 1, to)
    assert first.uri == first.destination == to
    assert below(to) == {"_manifest.json", "summary.json", "daily/part.0.parquet", "daily/deep/part.1.parquet"}
    assert_stored(to, 1)
    assert find_stored(to) == first

    copied = []
    assert store(manifests, 1, to, progress=lambda *done: copied.append(done)) == first
    assert not copied

    second = store(manifests, 2, to)
    assert second.uri == f"{to}v-{second.version}/"
    assert_stored(to, 2)
    assert find_stored(to) == second
    assert store(manifests, 1, to).uri == f"{to}v-{first.version}/"
    assert_stored(to, 1)
    again = store({0: find_stored(to).manifest}, 0, to.replace("/stored/", "/copied/"))
    assert (again.version, again.rows) == (first.version, 3)
    written = json.loads(storage.read_bytes("m", again.manifest))
    assert "lake@" not in json.dumps(written)


def test_copies_within_the_store_are_made_by_the_store_and_still_checked(lake, manifests, to, monkeypatch, tmp_path):
    streamed = []
    stream = Copier._stream
    monkeypatch.setattr(Copier, "_stream", lambda self, file, *a: streamed.append(file.path) or stream(self, file, *a))
    store(manifests, 1, to)
    store(manifests, 2, to.replace("lake@", "lake_too@"))  # another connection to the same store
    assert not streamed
    assert_stored(to, 2)
    local = {1: leave_result(f"{tmp_path}", 1)}
    store(local, 1, to)
    assert len(streamed) == 3
    assert_stored(to, 1)
    store({2: find_stored(to).manifest}, 2, str(tmp_path / "back"))
    assert_stored(str(tmp_path / "back"), 1)


def test_larger_files_are_streamed_in_parts(lake, to, tmp_path):
    manifest = {1: leave_result(str(tmp_path), 1, 35_000_000)}
    store(manifest, 1, to)
    assert_stored(to, 1)
    store({1: find_stored(to).manifest}, 1, str(tmp_path / "back"))
    assert_stored(str(tmp_path / "back"), 1)


def test_a_source_that_is_not_what_its_manifest_says_changes_nothing(lake, to):
    broken = {number: leave_result(f"{lake}/broken", number) for number in (1, 2)}
    store(broken, 1, to)
    damaged = storage.open_path("x", f"{lake}/broken/results-2/daily/part.0.parquet")
    content = damaged.fs.cat_file(damaged.path)
    damaged.fs.pipe_file(damaged.path, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InvalidInput, match=r"source: .*part\.0\.parquet.*was changed or damaged"):
        store(broken, 2, to)
    assert_stored(to, 1)
    damaged.fs.rm_file(damaged.path)
    with pytest.raises(InvalidInput, match=r"source: .*part\.0\.parquet.*a file that exists"):
        store(broken, 2, to)
    assert_stored(to, 1)


def test_what_is_not_ours_is_refused_and_stays(lake, manifests, to):
    mine = storage.open_path("x", f"{to}precious.txt")
    mine.fs.pipe_file(mine.path, b"mine")
    with pytest.raises(InvalidInput, match=r"destination: .*what store steps wrote; it holds precious\.txt"):
        store(manifests, 1, to)
    assert below(to) == {"precious.txt"}
    mine.fs.rm_file(mine.path)
    store(manifests, 1, to)
    mine.fs.pipe_file(mine.path, b"mine")
    with pytest.raises(InvalidInput, match=r"precious\.txt"):
        store(manifests, 2, to)
    assert read_result(to) == 1


def test_connections_and_places_that_cannot_be_used(lake, manifests, to):
    with pytest.raises(InvalidInput, match=r"destination: .*there is none with the id 'nowhere'"):
        store(manifests, 1, "s3://nowhere@lake-of-tests/x")
    with pytest.raises(InvalidInput, match=r"destination: .*a place to write to and delete from .*(user|User|[kK]ey)"):
        store(manifests, 1, "s3://stranger@lake-of-tests/x")
    with pytest.raises(InvalidInput, match=r"destination: .*a place to write to .*bucket"):
        store(manifests, 1, "s3://lake@no-such-bucket/x")
    with pytest.raises(InvalidInput, match=r"script: .*a file that exists"):
        storage.read_bytes("script", f"{lake}/jobs/nothing.py")
    with pytest.raises(InvalidInput, match="object store, which has no links"):
        store(manifests, 1, to, latest="latest")
    storage.check_writable("destination", f"{lake}/new/place/")
    place = storage.open_path("destination", f"{lake}/new/place/")
    assert not place.fs.exists(place.path)


@pytest.mark.parametrize("published", [None, 3])
@pytest.mark.parametrize("over", [True, False], ids=["over", "at_work"])
def test_a_store_step_that_another_one_overtook_gives_way(manifests, to, published, over):
    if published:
        store(manifests, published, to)
    begun, go_on, other = threading.Event(), threading.Event(), []

    def wait(files, size):
        begun.set()
        go_on.wait(20)

    def overtake(files, size):
        if not other:
            other.append(threading.Thread(target=store, args=(manifests, 2, to), kwargs={"progress": wait}))
            other[0].start()
            begun.wait(20)
            if over:
                go_on.set()
                other[0].join()

    with pytest.raises(StoreTakenOver):
        store(manifests, 1, to, progress=overtake, threads=1)
    assert read_result(to) == (2 if over else published)
    go_on.set()
    other[0].join()
    assert read_result(to) == 2


@pytest.mark.parametrize("copied_by", ["server", "stream"])
def test_cut_off_at_every_request(lake, manifests, to, copied_by, tmp_path):
    """Nothing gets through from the n-th request on, a reader looking on; the next store finishes, leaves nothing."""
    sources = manifests if copied_by == "server" else {n: leave_result(str(tmp_path), n) for n in manifests}
    with reader(to.replace("lake@", "lake_too@")):
        kills = kill_everywhere(publish_in_vain, sources, to, 25)
    assert kills >= 10
    for kill_at in range(1, kills, 3):  # the first result of a destination: nothing or all of it
        first = to.replace("/stored/", f"/first-{kill_at}/")
        publish_in_vain(sources[1], first, kill_at)
        assert read_result(first) in (None, 1)
        number = 1 + kill_at % 2
        publish_in_vain(sources[number], first)
        assert_stored(first, number)


def test_killed_at_any_moment(lake, manifests, to):
    """SIGKILL at random moments."""
    publisher = Publisher()
    try:
        store(manifests, 1, to)
        with reader(to):
            killed = kill_at_random(publisher, manifests, to, 15, 2)
        assert killed >= 1
    finally:
        publisher.close()
