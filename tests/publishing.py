"""What the tests of publishing share: results with known content, readers, and a publisher that is killed on the way.

Run as a program it publishes what the lines of its standard input say, each in a child process that kills itself with
SIGKILL at a given step, so that nothing but the publishing itself has to be paid for.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from dask_provider import storage
from dask_provider.publish import copying, load_source, local, publish
from dask_provider.results import MANIFEST, Manifest, ManifestFile, sizes_below

MODULE = str(Path(__file__))
READER = "reader of results"


def content_of(number: int, size: int = 3000) -> dict[str, bytes]:
    """Files of a result; every number has other content, odd ones have a file more."""
    seeded = random.Random(number)
    files = {"summary.json": b'{"number": %d}' % number, "daily/part.0.parquet": seeded.randbytes(size)}
    return files | ({"daily/deep/part.1.parquet": seeded.randbytes(size)} if number % 2 else {})


def leave_result(prefix: str, number: int, size: int = 3000) -> str:
    """Write a result below a prefix as a job does; the URI of its manifest."""
    where = storage.open_path("results", storage.join(prefix, f"results-{number}/"))
    files = content_of(number, size)
    for path, content in files.items():
        target = where.child(path)
        if target.local:
            os.makedirs(os.path.dirname(target.path), exist_ok=True)
        target.fs.pipe_file(target.path, content)
    listing = [ManifestFile(path, len(c), hashlib.sha256(c).hexdigest(), number) for path, c in files.items()]
    manifest = storage.open_path("manifest", storage.join(prefix, f"manifest-{number}.json"))
    manifest.fs.pipe_file(manifest.path, Manifest.build(f"job-{number}", where.uri, listing).to_json())
    return manifest.uri


def read_result(destination: str) -> int | None:
    """Read a destination as readers are told to; the number of what is published, ``None`` for nothing.

    :raises AssertionError: for anything that is not a complete result.
    """
    root = storage.open_path("destination", storage.join(destination, ""))
    while True:
        before = _bytes_of(root.child(MANIFEST))
        if before is None:
            return None
        manifest = Manifest.parse("destination", root.uri, before)
        seen = {file.path: _bytes_of(root.child(manifest.prefix + file.path)) for file in manifest.files}
        if _bytes_of(root.child(MANIFEST)) == before:
            number = int(manifest.job_id.removeprefix("job-"))
            wanted = content_of(number, max(len(content) for content in content_of(number).values()))
            assert {path: content and len(content) for path, content in seen.items()} == {
                file.path: file.bytes for file in manifest.files
            }, f"result {number} is incomplete"
            assert set(seen) == set(wanted), f"result {number} has other files"
            for file in manifest.files:
                assert hashlib.sha256(seen[file.path]).hexdigest() == file.sha256, f"{number}: {file.path} is mixed"
            return number


def below(destination: str) -> set[str]:
    """Every file below a destination and, of a local one, whatever lies hidden beside it."""
    root = storage.open_path("destination", storage.join(destination, ""))
    found = set(sizes_below(root))
    if root.local:
        folder, name = os.path.split(root.path)
        found |= {f"../{entry}" for entry in os.listdir(folder) if entry.startswith(f".{name}.")}
    return found


def assert_stored(destination: str, number: int) -> None:
    """Exactly this result is published, and nothing else is left anywhere near."""
    assert read_result(destination) == number
    manifest = Manifest.parse("destination", destination, storage.read_bytes("m", storage.join(destination, MANIFEST)))
    assert below(destination) == {MANIFEST, *manifest.keys()}


@contextmanager
def reader(destination: str, *, may_be_absent: bool = False):
    """Reads the destination again and again meanwhile; what it saw must always have been one complete result."""
    seen, errors, stop = [], [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                seen.append(read_result(destination))
            except BaseException as error:  # noqa: BLE001
                errors.append(repr(error))
                return
            time.sleep(0.001)

    thread = threading.Thread(target=read, name=READER, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(20)
    assert not errors
    assert seen
    if not may_be_absent:
        assert None not in list(itertools.dropwhile(lambda number: number is None, seen))


class Publisher:
    """A process that publishes and is killed at a step."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def publish(self, manifest: str, destination: str, **options) -> dict:
        """``kill_at``: the first step not taken any more; ``kill_after``: seconds. Answers how it ended."""
        self._process.stdin.write(json.dumps({"manifest": manifest, "destination": destination} | options) + "\n")
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)


class _Killed(BaseException):
    """Nothing catches it."""


def publish_in_vain(manifest: str, destination: str, kill_at: int | None = None) -> dict:
    """As :meth:`Publisher.publish`, for an object store and much faster: from a step on, no request gets through."""
    steps, lock = itertools.count(), threading.Lock()
    fs = storage.open_path("destination", destination).fs

    def dying(call):
        def request(*args, **kwargs):
            with lock:  # another connection may have the same filesystem object
                by_reader = threading.current_thread().name == READER
                if kill_at is not None and not by_reader and next(steps) >= kill_at:
                    raise _Killed
            return call(*args, **kwargs)

        return request

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pipe_file", "cp_file", "rm_file", "cat_file", "find", "open"):
            patch.setattr(fs, name, dying(getattr(fs, name)))
        try:
            publish(load_source(manifest), destination)
        except _Killed:
            return {"status": "killed"}
    return {"status": "done"}


def kill_everywhere(publish_and_die, manifests, destination, seconds, *, may_be_absent=False) -> int:
    """Replace one result by the next, killed at every step in turn; the next store must finish what was begun.

    First every other step, then those between; ends when all were tried or the time is up.

    :param publish_and_die: called with manifest, destination and ``kill_at``.
    :returns: how many were killed.
    """
    until, kills = time.monotonic() + seconds, 0
    numbers = itertools.cycle(manifests)
    current = next(numbers)
    assert publish_and_die(manifests[current], destination)["status"] == "done"
    assert_stored(destination, current)
    for first in (0, 1):
        ran_through = 0
        for step in itertools.count(first, 2):
            new = next(numbers)
            if publish_and_die(manifests[new], destination, kill_at=step)["status"] == "killed":
                kills += 1
                allowed = {current, new} | ({None} if may_be_absent else set())
                assert read_result(destination) in allowed, f"killed at step {step}"
                if kills % 3 == 1:  # a second one is killed before anybody cleans up, then another result is stored
                    new = next(numbers)
                    publish_and_die(manifests[new], destination, kill_at=max(step - 2, 0))
                if kills % 3 == 2:
                    new = next(numbers)
                assert publish_and_die(manifests[new], destination)["status"] == "done"
            else:
                ran_through += 1
            assert_stored(destination, new)
            current = new
            if ran_through == len(manifests):  # not all of them have as many steps
                break
            if time.monotonic() > until:
                return kills
    return kills


def kill_at_random(publisher, manifests, destination, seconds, longest) -> int:
    """Publish again and again, each killed by SIGKILL after a random time of at most ``longest`` seconds.

    :returns: how many were killed.
    """
    until, order, killed = time.monotonic() + seconds, random.Random(4), 0
    numbers = list(manifests)
    while time.monotonic() < until:
        ended = publisher.publish(manifests[order.choice(numbers)], destination, kill_after=order.uniform(0, longest))
        killed += ended["status"] == "killed"
        read_result(destination)
    last = order.choice(numbers)
    assert publisher.publish(manifests[last], destination)["status"] == "done"
    assert_stored(destination, last)
    return killed


def _bytes_of(location: storage.Location) -> bytes | None:
    try:
        return location.fs.cat_file(location.path)
    except (FileNotFoundError, NotADirectoryError):
        return None


# --- the program ---


def _count_steps(kill_at: int | None) -> dict[str, int]:
    """Count every call that changes local files; the process ends before the one of the given number."""
    steps, lock = {"count": 0}, threading.Lock()

    def step() -> None:
        with lock:
            if steps["count"] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            steps["count"] += 1

    def counted(owner, name):
        call = getattr(owner, name)

        @functools.wraps(call)
        def wrapper(*args, **kwargs):
            step()
            return call(*args, **kwargs)

        setattr(owner, name, wrapper)

    for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "symlink", "fsync"):
        counted(os, name)
    counted(local, "exchange")
    counted(copying.Copier, "_count")
    return steps


def _publish(order: dict) -> dict:
    if order.get("no_exchange"):
        local.exchange = lambda *_: False
    steps = _count_steps(order.get("kill_at"))
    if order.get("kill_after") is not None:
        threading.Timer(order["kill_after"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    try:
        publish(load_source(order["manifest"]), order["destination"], latest=order.get("latest"))
    except Exception as error:  # noqa: BLE001
        return {"status": "failed", "error": repr(error), "steps": steps["count"]}
    return {"status": "done", "steps": steps["count"]}


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Airflow logs to the standard output
    for line in sys.stdin:
        order = json.loads(line)
        if order["destination"].startswith("s3:"):
            import s3fs  # noqa: F401
        receive, send = os.pipe()
        if (child := os.fork()) == 0:
            os.write(send, json.dumps(_publish(order)).encode())
            os._exit(0)
        os.close(send)
        with os.fdopen(receive) as said:
            answer = said.read()
        os.waitpid(child, 0)
        print(answer or '{"status": "killed"}', file=answers)


if __name__ == "__main__":
    _main()
