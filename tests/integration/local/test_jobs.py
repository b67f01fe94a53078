"""One job of an owner at a time, whoever was killed before; and what is known of a job once it is over."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import cloudpickle
import psutil
import pytest
import pytest_asyncio
from dask_provider.clusters import LocalCluster
from dask_provider.errors import Overtaken
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER

from tests.conftest import require
from tests.integration.onehost import FIRST, Host, cleared, lines_of, one_host, retry, until

#: Says when it starts and ends; whoever is found alive beside it is an offence.
WITNESS = """
    import os, sys, time
    book, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    note = lambda word: open(book, "a").write(f"{word} {os.getpid()}\\n")
    for line in open(book).read().splitlines() if os.path.exists(book) else ():
        stat = f"/proc/{line.split()[1]}/stat"
        if os.path.exists(stat) and open(stat).read().rpartition(")")[2].split()[0] not in "ZX":
            note("overlaps")
    note("start")
    time.sleep(seconds)
    note("end")
    sys.exit(code)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Host, ClusterHandle]]:
    async with one_host(tmp_path_factory.mktemp("jobs") / "state") as host:
        spec = LocalCluster(workers=2, env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "COLOUR": "of all"})
        yield host, await host.ready(spec)


@pytest.fixture
def host(shared: tuple[Host, ClusterHandle]) -> Host:
    return shared[0]


@pytest.fixture
def cluster(shared: tuple[Host, ClusterHandle]) -> ClusterHandle:
    return shared[1]


def words(book: Path) -> list[str]:
    return [line.split()[0] for line in lines_of(book)]


async def until_over(job: JobHandle) -> str:
    """What ``cancel`` says once the runtime has left."""
    process = json.loads(Path(job.location, "process.json").read_text())["pid"]
    await until(lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE, 5)
    return await hook_of(job.place).cancel(job)


async def started(book: Path, times: int = 1) -> None:
    await until(lambda: words(book).count("start") == times)


# --- one at a time ---


async def test_a_fresh_attempt_ends_what_an_older_one_left(host: Host, cluster: ClusterHandle, tmp_path: Path) -> None:
    book = tmp_path / "book"
    arguments = {"task_id": "fresh", "arguments": (str(book), "99", "0")}
    old = await host.submit(cluster, WITNESS, **arguments)
    await started(book)
    new = await host.submit(cluster, WITNESS, **arguments, attempt=cleared(3))
    assert (new.adopted, new.attempt) == (False, 3)
    assert (await host.follow(old)).outcome.state == "cancelled"
    await started(book, 2)
    assert await hook_of("local").cancel(dataclasses.replace(new, attempt=1)) == TAKEN_OVER
    assert psutil.pid_exists(int(lines_of(book)[-1].split()[1]))
    assert await hook_of("local").cancel(new) == "cancelled"
    told = await host.follow(new)
    assert (told.outcome.state, told.outcome.reason) == ("cancelled", "cancelled (SIGTERM)")
    assert words(book) == ["start", "start"]
    assert await until_over(new) == "already over"


async def test_a_retry_goes_on_with_a_running_and_with_a_succeeded_job(
    host: Host, cluster: ClusterHandle, tmp_path: Path
) -> None:
    book = tmp_path / "book"
    arguments = {"task_id": "adopt", "arguments": (str(book), "3", "0")}
    first = await host.submit(cluster, WITNESS, **arguments)
    await started(book)
    second = await host.submit(cluster, WITNESS, **arguments, attempt=retry(2))
    assert (second.adopted, second.job_id, second.attempt) == (True, first.job_id, 2)
    assert await hook_of("local").cancel(first) == TAKEN_OVER
    assert (await host.follow(second)).outcome.succeeded
    third = await host.submit(cluster, WITNESS, **arguments, attempt=retry(3))
    assert (third.adopted, third.job_id) == (True, first.job_id)
    assert (await host.follow(third)).outcome.succeeded
    assert words(book) == ["start", "end"]
    assert (await hook_of("local").find_job(cluster, host.owner("adopt"))).attempt == 3


async def test_a_retry_starts_a_failed_job_anew_and_ends_one_of_another_spec(
    host: Host, cluster: ClusterHandle, tmp_path: Path
) -> None:
    book = tmp_path / "book"
    failing = await host.submit(cluster, WITNESS, task_id="anew", arguments=(str(book), "0", "3"))
    assert (await host.follow(failing)).outcome.exit_code == 3
    same = host.bundle(host.owner("anew"), WITNESS, arguments=(str(book), "0", "3"))
    assert not await hook_of("local").would_adopt(cluster, same, retry(2))
    slow = await host.submit(cluster, WITNESS, task_id="anew", attempt=retry(2), arguments=(str(book), "99", "0"))
    assert not slow.adopted
    await started(book, 2)
    other = await host.submit(cluster, WITNESS, task_id="anew", attempt=retry(3), arguments=(str(book), "0.1", "0"))
    assert (await host.follow(other)).outcome.succeeded
    assert (await host.follow(slow)).outcome.state == "cancelled"
    assert words(book) == ["start", "end", "start", "start", "end"]


async def test_a_retry_adopts_neither_what_a_clear_has_left_nor_what_is_being_cancelled(
    host: Host, cluster: ClusterHandle, tmp_path: Path
) -> None:
    book = tmp_path / "book"
    arguments = {"task_id": "cleared", "arguments": (str(book), "0", "0")}
    before = await host.submit(cluster, WITNESS, **arguments)
    assert (await host.follow(before)).outcome.succeeded
    # Cleared; the first try after that was killed before it submitted anything.
    after = await host.submit(cluster, WITNESS, **arguments, attempt=dataclasses.replace(retry(3), since=2))
    assert not after.adopted
    assert (await host.follow(after)).outcome.succeeded
    arguments = {"task_id": "cancelled", "arguments": (str(book), "99", "0")}
    running = await host.submit(cluster, WITNESS, **arguments)
    await started(book, 3)
    assert await hook_of("local").cancel(running) == "cancelled"
    again = await host.submit(cluster, WITNESS, **arguments, attempt=retry(2))
    assert not again.adopted
    await started(book, 4)
    await hook_of("local").cancel(again)
    assert (await host.follow(again)).outcome.state == "cancelled"


async def test_an_orphan_of_an_older_try_leaves_the_job_of_a_newer_one_alone(
    host: Host, cluster: ClusterHandle, tmp_path: Path
) -> None:
    book = tmp_path / "book"
    arguments = {"task_id": "orphan", "arguments": (str(book), "99", "0")}
    newer = await host.submit(cluster, WITNESS, **arguments, attempt=retry(3))
    await started(book)
    for older in (FIRST, retry(2)):  # one would end it, the other one adopt it
        with pytest.raises(Overtaken, match=rf"{newer.job_id} belongs to try 3, .* of try {older.number}: .*alone"):
            await host.submit(cluster, WITNESS, **arguments, attempt=older)
    adopted = await host.submit(cluster, WITNESS, **arguments, attempt=retry(4))
    assert (adopted.job_id, adopted.attempt) == (newer.job_id, 4), "it runs on"
    with pytest.raises(Overtaken, match="belongs to try 4"):
        await host.submit(cluster, WITNESS, **arguments, attempt=retry(3))
    assert words(book) == ["start"]
    # The run is deleted and made anew: its first try is newer than all that is there.
    anew = await host.submit(cluster, WITNESS, **arguments, attempt=cleared(1, started=5))
    assert not anew.adopted
    await started(book, 2)
    with pytest.raises(Overtaken, match="after this process of try 1: it is left alone"):
        await host.submit(cluster, WITNESS, **arguments, attempt=FIRST)
    assert await hook_of("local").cancel(dataclasses.replace(anew, started=1)) == TAKEN_OVER
    assert await hook_of("local").cancel(anew) == "cancelled"
    assert (await host.follow(anew)).outcome.state == "cancelled"
    assert words(book) == ["start", "start"]


async def test_two_tries_that_submit_at_once_start_one_job(host: Host, cluster: ClusterHandle, tmp_path: Path) -> None:
    book = tmp_path / "book"
    arguments = {"task_id": "twice", "arguments": (str(book), "2", "0")}
    jobs = await asyncio.gather(*(host.submit(cluster, WITNESS, **arguments, attempt=retry(2)) for _ in range(2)))
    assert sorted(job.adopted for job in jobs) == [False, True]
    assert len({job.job_id for job in jobs}) == 1
    assert (await host.follow(jobs[0])).outcome.succeeded
    assert words(book) == ["start", "end"]


async def test_cancelled_before_it_has_started(host: Host, cluster: ClusterHandle, tmp_path: Path) -> None:
    for wait in (0, 0.5, 1):
        job = await host.submit(cluster, WITNESS, task_id="early", arguments=(str(tmp_path / "book"), "99", "0"))
        await asyncio.sleep(wait)
        assert await hook_of("local").cancel(job) == "cancelled"
        told = await host.follow(job, 15)
        assert told.outcome.state in ("cancelled", "unknown"), told.outcome
        await host.assert_ended(job)
    assert "end" not in words(tmp_path / "book")


async def test_a_program_that_ignores_sigterm_and_its_children_are_ended_too(
    host: Host, cluster: ClusterHandle
) -> None:
    job = await host.submit(
        cluster,
        """
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "98"])
        print(child.pid, flush=True)
        time.sleep(99)
        """,
        task_id="stubborn",
    )
    (line,) = await until(lambda: [line for line in lines_of(Path(job.location, "output.log")) if line.isdigit()])
    assert await hook_of("local").cancel(job) == "cancelled"
    assert (await host.follow(job, 15)).outcome.state == "cancelled"
    await until(lambda: not psutil.pid_exists(int(line)), 3)


# --- how it ended ---

RAISES = """
    import sys
    print("a line before")
    def deep():
        raise MemoryError("no room for the table")
    try:
        deep()
    finally:
        print("a line after", flush=True)
"""
KILLED_WORKER = """
    import os
    from distributed import Client
    with Client() as client:
        client.submit(os._exit, 1, pure=False).result()
"""


@pytest.mark.parametrize(
    ("script", "expected", "reason"),
    [
        ("import sys; print('last words'); sys.exit(3)", (3, None), "exit code 3: last words"),
        ("import os; os.kill(os.getpid(), 9)", (None, "SIGKILL"), "ended by signal SIGKILL"),
        (RAISES, (1, None), "exit code 1: MemoryError: no room for the table"),
        (KILLED_WORKER, (1, None), "KilledWorker"),
        ("import no_such_module", (1, None), "exit code 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", (1, None), "SyntaxError: invalid syntax"),
    ],
    ids=["exit code", "signal", "memory error", "killed worker", "import", "syntax"],
)
async def test_why_a_program_failed(
    host: Host, cluster: ClusterHandle, script: str, expected: tuple[int | None, str | None], reason: str
) -> None:
    told = await host.run(cluster, script, task_id="fails")
    outcome = told.outcome
    assert (outcome.state, outcome.exit_code, outcome.signal) == ("failed", *expected), outcome
    assert reason in outcome.reason
    assert outcome.tail == told.lines[-20:]
    assert told.messages[-1]["state"] == "failed"


def call(function: object, *args: object) -> bytes:
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["x"]))
    return cloudpickle.dumps((function, args, {}))


async def test_what_a_function_returns(host: Host, cluster: ClusterHandle) -> None:
    def answer(size: int) -> object:
        from distributed import Client

        with Client() as client:
            return {"text": client.submit(lambda: "ü" * size).result()}

    small = await host.run(cluster, "", call=call(answer, 3), task_id="returns")
    assert small.outcome.result == {"value": {"text": "üüü"}}, small.outcome
    large = await host.run(cluster, "", call=call(answer, 60_000), task_id="returns")
    uri = large.outcome.result["uri"]
    assert uri == large.outcome.manifest["uri"].replace("manifest.json", "results/result.json").removeprefix("file://")
    assert json.loads(Path(uri).read_text()) == {"text": "ü" * 60_000}
    assert large.outcome.manifest["files"] == 1
    no_json = await host.run(cluster, "", call=call(lambda: {1, 2}), task_id="returns")
    assert (no_json.outcome.state, no_json.outcome.exit_code) == ("failed", 65)
    assert "the function returned set, which JSON cannot hold" in no_json.outcome.reason


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"pickled_with": "3.9"}, "pickled by Python 3.9"),
        ({"results": "oci://bucket@namespace/"}, "the results at oci://.* cannot be written from here: Install ocifs"),
    ],
    ids=["another Python", "no file system"],
)
async def test_what_cannot_work_here_is_not_run(
    host: Host, cluster: ClusterHandle, known: dict[str, str], why: str
) -> None:
    bundle = host.bundle(host.owner("not run"), "", call=call(lambda: print("it ran")))
    bundle = dataclasses.replace(bundle, job={**bundle.job, **known})
    told = await host.follow(await hook_of("local").submit(cluster, bundle, FIRST))
    assert told.outcome.state == "failed"
    assert re.search(why, told.outcome.reason)
    assert not told.lines


async def test_results_and_surroundings_of_a_job(host: Host, cluster: ClusterHandle) -> None:
    helper = b"def triple(x):\n    return 3 * x\n"
    script = """
        import json, os, sys
        from distributed import Client
        import helper
        results = os.environ["DASK_JOB_RESULTS"]
        os.makedirs(results + "deep")
        open(results + "deep/part ü.txt", "wb").write(b"\\x00\\x01" * 5000)
        open(results + "summary.json", "w").write("{}")
        with Client() as client:
            names = ("DASK_JOB_ID", "COLOUR", "SHAPE", "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW_CONN_BANK")
            print(json.dumps({
                "on workers": client.gather(client.map(helper.triple, range(4))),
                "files": {name: open(name).read() for name in sorted(os.listdir("."))},
                "arguments": sys.argv[1:],
                **{name: os.environ.get(name) for name in names},
            }))
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
        patch.setenv("AIRFLOW_CONN_BANK", "secret")
        job = await host.submit(
            cluster,
            script,
            task_id="results",
            arguments=("--day", "a b'c"),
            files={"notes.txt": b"read me"},
            py_files={"helper.py": helper},
            env={"SHAPE": "round"},
        )
    told = await host.follow(job)
    assert told.outcome.succeeded, told.outcome
    (line,) = [line for line in told.lines if line.startswith("{")]
    assert json.loads(line) == {
        "on workers": [0, 3, 6, 9],
        "files": {"notes.txt": "read me"},
        "arguments": ["--day", "a b'c"],
        "DASK_JOB_ID": job.job_id,
        "COLOUR": "of all",
        "SHAPE": "round",
        "AIRFLOW__CORE__FERNET_KEY": None,
        "AIRFLOW_CONN_BANK": None,
    }
    manifest = json.loads(Path(job.manifest.removeprefix("file://")).read_text())
    assert [(entry["path"], entry["bytes"], entry["sha256"]) for entry in manifest["files"]] == [
        ("deep/part ü.txt", 10_000, hashlib.sha256(b"\x00\x01" * 5000).hexdigest()),
        ("summary.json", 2, hashlib.sha256(b"{}").hexdigest()),
    ]
    assert (told.outcome.manifest["files"], told.outcome.manifest["bytes"]) == (2, 10_002)
    assert told.outcome.dask["tasks"] == 4
    assert told.outcome.peak_memory > 10 * 2**20
    private = [p for p in Path(job.location).iterdir() if p.suffix == ".json" and p.stat().st_mode & 0o077]
    assert not private, "may hold secrets"


# --- what is shown of it ---


async def test_a_second_watch_goes_on_where_the_first_one_stopped(host: Host, cluster: ClusterHandle) -> None:
    script = "import time\nfor n in range(30): print('line', n, flush=True); time.sleep(0.1)"
    job = await host.submit(cluster, script, task_id="lines")
    lines: list[str] = []
    position = 0
    async for news in hook_of("local").watch(job, position=0, eager=True):
        lines += news.lines
        position = news.position
        if len(lines) > 10:
            break
    assert 10 < len(lines) < 30
    hurry = hook_of("local").watch(job, position=position, eager=True)
    lines += [line async for news in hurry for line in news.lines]
    assert lines == [f"line {n}" for n in range(30)]


async def test_output_that_looks_like_a_message_and_output_that_is_no_text(host: Host, cluster: ClusterHandle) -> None:
    script = r"""
        import os
        print('::dask-job:: {"kind": "outcome", "state": "succeeded"}')
        print('::dask-job:: {"kind": "waiting"}')
        print("no end of line in sight " * 20_000, end="")
        os.write(1, b"\nbytes \xff\xfe and \x1b[31mred\n")
        print("50%\r100%")
        raise SystemExit(7)
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONIOENCODING", "ascii")
        told = await host.run(cluster, script, task_id="odd output")
    assert (told.outcome.state, told.outcome.exit_code) == ("failed", 7)
    kinds = [message["kind"] for message in told.messages]
    assert (kinds.count("outcome"), kinds.count("waiting")) == (1, 1), "the program cannot speak for the runtime"
    assert sum(map(len, told.outcome.tail)) <= 20_000, "it travels through Airflow's database"
    text = "\n".join(told.lines)
    assert '{"kind": "outcome", "state": "succeeded"}' in text
    assert text.count("no end of line in sight") > 19_900
    assert "bytes \ufffd\ufffd and" in text


async def test_progress_counts_the_work_of_this_job(host: Host, cluster: ClusterHandle) -> None:
    script = """
        import time
        from distributed import Client
        with Client() as client:
            client.gather(client.map(lambda n: time.sleep(0.25), range(20), pure=False))
    """
    told = await host.run(cluster, script, task_id="progress")
    assert told.outcome.succeeded
    progress = [message for message in told.messages if message["kind"] == "progress"]
    assert any(0 < message["total"] - message["done"] <= 20 for message in progress), progress
    assert (progress[-1]["done"], progress[-1]["total"]) == (20, 20), "not of those before it"
    assert {message["workers"] for message in progress} == {2}
    assert told.outcome.dask == {"tasks": 20, "workers_lost": 0}


async def test_performance_report(host: Host, cluster: ClusterHandle) -> None:
    require("bokeh", importlib.util.find_spec("bokeh") is not None)
    script = "from distributed import Client\nwith Client() as client: client.submit(sum, [1]).result()"
    told = await host.run(cluster, script, task_id="report", performance_report=True)
    assert told.outcome.succeeded
    page = Path(told.outcome.report)
    assert "<html" in page.read_text()[:1000].lower()
    assert page.stat().st_mode & 0o077 == 0


async def test_a_runtime_killed_while_it_works_takes_the_program_with_it(
    host: Host, cluster: ClusterHandle, tmp_path: Path
) -> None:
    """And a retry starts the job anew, once."""
    book = tmp_path / "book"
    job: JobHandle = await host.submit(cluster, WITNESS, task_id="killed", arguments=(str(book), "99", "0"))
    await started(book)
    os.kill(json.loads(Path(job.location, "process.json").read_text())["pid"], signal.SIGKILL)
    began = time.monotonic()
    assert (await host.follow(job)).outcome.state == "unknown"
    assert time.monotonic() - began < 10
    again = await host.submit(cluster, WITNESS, task_id="killed", attempt=retry(2), arguments=(str(book), "99", "0"))
    assert not again.adopted
    await started(book, 2)
    await hook_of("local").cancel(again)
    assert (await host.follow(again)).outcome.state == "cancelled"
    assert words(book) == ["start", "start"]
