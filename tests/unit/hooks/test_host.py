"""Reading a job's output, and what processes of this host may know."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from dask_provider.errors import InvalidInput, WrongHost
from dask_provider.handles import JobHandle
from dask_provider.hooks.base import TAKEN_OVER
from dask_provider.hooks.host import (
    CHUNK,
    _read_news,
    check_host,
    check_python,
    clean_environment,
    locked,
    this_host,
    write_attempt,
)
from dask_provider.hooks.local import LocalHook
from dask_provider.owner import Attempt
from dask_provider.runtime.report import PREFIX


def test_lines_and_messages_apart_and_only_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    assert _read_news(log, 0).position == 0, "nothing is there yet"
    message = PREFIX + '{"kind": "progress"}\n'
    log.write_text("one\n" + message + "zwölf\nhal")
    news = _read_news(log, 0)
    assert (news.lines, news.messages) == (["one", "zwölf"], [{"kind": "progress"}])
    assert _read_news(log, news.position).position == news.position, "half a line is none"
    with open(log, "a") as file:
        file.write("f\n")
    assert _read_news(log, news.position).lines == ["half"]


def test_long_output_comes_in_pieces_and_a_line_without_end_does_not_stop_it(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_text("x" * (CHUNK + 10) + "\n" + "y\n" * CHUNK)
    position, text = 0, ""
    for _ in range(10):
        news = _read_news(log, position)
        assert news.position - position <= CHUNK
        text += "".join(news.lines)
        position = news.position
    assert position == log.stat().st_size
    assert (text.count("x"), text.count("y")) == (CHUNK + 10, CHUNK)


def test_processes_get_no_secret_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW_CONN_BANK", "AIRFLOW_VAR_TOKEN", "_AIRFLOW_X", "__AIRFLOW_Y"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "flights")
    monkeypatch.setenv("COLOUR", "red")
    env = clean_environment()
    assert "secret" not in env.values()
    assert (env["AIRFLOW_CTX_DAG_ID"], env["COLOUR"]) == ("flights", "red")


def test_another_host_and_another_python() -> None:
    check_host("job x", this_host())
    with pytest.raises(WrongHost, match=f"job x lives on host 'elsewhere', this process runs on '{this_host()}'"):
        check_host("job x", "elsewhere")
    check_python("LocalCluster.python", None)
    check_python("LocalCluster.python", "python3")
    with pytest.raises(InvalidInput, match=r"^LocalCluster\.python: '/no/python' is not possible"):
        check_python("LocalCluster.python", "/no/python")


async def test_a_cancel_waits_for_who_takes_the_job_over(tmp_path: Path) -> None:
    home = tmp_path / "dask-x"
    folder = home / "dask-x-1"
    folder.mkdir(parents=True)
    older, newer = (Attempt(n, fresh=False, last=False, started=n) for n in (1, 2))
    write_attempt(folder, older)
    job = JobHandle("local", "dask-x-1", str(folder), 1, "r/", "m", started=1)
    with locked(home.with_suffix(".lock")):
        asked = asyncio.create_task(LocalHook().cancel(job))
        done, _ = await asyncio.wait([asked], timeout=0.3)
        write_attempt(folder, newer)
    assert await asked == TAKEN_OVER
    assert not done
    assert not (folder / "ending.json").exists(), "the newer try's job can still be adopted"
    assert await LocalHook().cancel(replace(job, attempt=2, started=2)) == "already over"  # it has no process
    with locked(home.with_suffix(".lock")):  # by a try that ends it
        asked = asyncio.create_task(LocalHook().cancel(replace(job, attempt=2, started=2)))
        assert await asyncio.wait_for(asked, 5) == "already over"
