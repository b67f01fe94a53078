"""Publishing into local folders: complete or nothing, whatever happens to the publisher."""

import os
import random
import threading
from functools import partial

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.publish import load_source, local, publish
from dask_provider.publish.swap import exchange
from dask_provider.results import find_stored

from tests.publishing import (
    Publisher,
    assert_stored,
    below,
    content_of,
    kill_at_random,
    kill_everywhere,
    leave_result,
    read_result,
    reader,
)


@pytest.fixture(scope="module")
def publisher():
    process = Publisher()
    yield process
    process.close()


@pytest.fixture
def manifests(tmp_path):
    return {number: leave_result(f"{tmp_path}/staging", number) for number in (1, 2, 3)}


def store(manifests, number, destination, **options):
    return publish(load_source(manifests[number]), str(destination), **options)


def test_publish_replace_and_publish_again(tmp_path, manifests):
    to = tmp_path / "lake" / "flights"
    assert find_stored(str(to)) is None
    first = store(manifests, 1, to)
    assert_stored(str(to), 1)
    assert (first.files, first.rows, first.uri) == (3, 3, f"file://{to}/")
    assert find_stored(str(to)) == first

    inode = to.stat().st_ino
    copied = []
    assert store(manifests, 1, to, progress=lambda *done: copied.append(done)) == first
    assert not copied
    assert to.stat().st_ino == inode

    second = store(manifests, 2, to, progress=lambda *done: copied.append(done))
    assert copied[-1] == (2, second.bytes)
    assert second.version != first.version
    assert_stored(str(to), 2)
    (to / "summary.json").unlink()  # damaged: it counts as not stored, and is stored again
    assert find_stored(str(to)) is None
    assert store(manifests, 2, to) == second
    assert_stored(str(to), 2)


def test_what_is_not_ours_is_refused_and_stays(tmp_path, manifests):
    to = tmp_path / "notes"
    to.mkdir()
    (to / "precious.txt").write_text("mine")
    with pytest.raises(InvalidInput, match=r"destination: .*what store steps wrote; it holds precious\.txt"):
        store(manifests, 1, to)
    assert below(str(to)) == {"precious.txt"}

    (to / "precious.txt").unlink()
    store(manifests, 1, to)  # an empty folder is free
    (to / "added.txt").write_text("mine")
    with pytest.raises(InvalidInput, match=r"added\.txt"):
        store(manifests, 2, to)
    assert read_result(str(to)) == 1
    (to / "added.txt").unlink()

    (tmp_path / "link").symlink_to(to)
    with pytest.raises(InvalidInput, match="not a symbolic link"):
        store(manifests, 2, tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="a folder with nothing in it"):
        store(manifests, 2, tmp_path / "file")
    with pytest.raises(InvalidInput, match="NotADirectoryError"):
        store(manifests, 2, tmp_path / "file" / "below")
    with pytest.raises(InvalidInput, match="apart from the source"):
        store(manifests, 2, tmp_path / "staging" / "results-2" / "sub")
    (to / "_manifest.json").write_text("{}")
    with pytest.raises(InvalidInput, match="the manifest of a job"):
        store(manifests, 2, to)


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_a_source_that_is_not_what_its_manifest_says_changes_nothing(tmp_path, manifests, damage):
    to = tmp_path / "flights"
    store(manifests, 1, to)
    broken = tmp_path / "staging" / "results-2" / "daily" / "part.0.parquet"
    content = broken.read_bytes()
    broken.unlink()
    if damage != "gone":
        broken.write_bytes(content[:-1] + b"" if damage == "shorter" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InvalidInput, match=r"source: .*part\.0\.parquet.* its manifest"):
        store(manifests, 2, to)
    assert_stored(str(to), 1)


def test_latest_follows_the_newest_stored_result(tmp_path, manifests):
    runs, link = tmp_path / "runs", tmp_path / "runs" / "latest"
    store(manifests, 1, runs / "a", latest="latest")
    assert os.readlink(link) == "a"
    store(manifests, 2, runs / "b", latest="latest")
    store(manifests, 1, runs / "a", latest="latest")  # again, nothing new: b is still the newest
    assert os.readlink(link) == "b"
    assert read_result(str(link)) == 2
    store(manifests, 3, runs / "a", latest="latest")
    assert os.readlink(link) == "a"
    assert sorted(path.name for path in runs.iterdir()) == ["a", "b", "latest"]
    link.unlink()
    link.mkdir()
    with pytest.raises(InvalidInput, match="latest: 'latest'"):
        store(manifests, 2, runs / "a", latest="latest")


def test_two_store_steps_at_once_do_not_mix(tmp_path, manifests):
    to = str(tmp_path / "flights")
    errors = []

    def work(seed):
        order = random.Random(seed)
        try:
            for _ in range(8):
                store(manifests, order.choice((1, 2, 3)), to)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    with reader(to):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert_stored(to, read_result(to))


def test_a_stopped_copy_leaves_the_old_result(tmp_path, manifests):
    to = str(tmp_path / "flights")
    store(manifests, 1, to)

    def stop(files, size):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store(manifests, 2, to, progress=stop)
    assert_stored(to, 1)


def test_exchange(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(str(tmp_path / "a"), str(tmp_path / "b")):
        pytest.skip("missing: a file system that exchanges names")
    assert (tmp_path / "a" / "b").exists()
    with pytest.raises(FileNotFoundError):
        exchange(str(tmp_path / "a"), str(tmp_path / "c"))


@pytest.mark.parametrize("no_exchange", [False, True], ids=["exchange", "rename"])
def test_killed_at_every_step(tmp_path, manifests, publisher, no_exchange):
    """SIGKILL before each call that changes anything, a reader looking on; the next store leaves nothing behind."""
    to = str(tmp_path / "runs" / "flights")
    die = partial(publisher.publish, no_exchange=no_exchange, latest="latest")
    with reader(to, may_be_absent=no_exchange):
        kills = kill_everywhere(die, manifests, to, 25, may_be_absent=no_exchange)
    assert kills >= 10
    assert os.readlink(tmp_path / "runs" / "latest") == "flights"


def test_killed_at_any_moment(tmp_path, publisher):
    """SIGKILL at random moments, with files that take their time."""
    manifests = {number: leave_result(f"{tmp_path}/staging", number, 4_000_000) for number in (1, 2, 3)}
    to = str(tmp_path / "flights")
    with reader(to) as seen:
        killed = kill_at_random(publisher, manifests, to, 8, 0.08)
    assert killed >= 3
    assert len(set(seen)) > 1


def test_the_contents_of_the_tests_differ():
    assert len({repr(content_of(number)) for number in (1, 2, 3)}) == 3
    assert local.publish
