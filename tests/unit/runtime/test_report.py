"""Messages in a job's output."""

from __future__ import annotations

import pytest
from dask_provider.runtime.report import PREFIX, emit, parse


def test_what_is_emitted_is_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    emit("progress", done=1, text="two\nlines, ünicode \u2028")
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.count("\n") == 1 == len(line.splitlines())
    assert parse(line) == {"kind": "progress", "done": 1, "text": "two\nlines, ünicode \u2028"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "progress",
        PREFIX,
        PREFIX + "no json",
        PREFIX + "[1]",
        PREFIX + '{"done": 1}',
        PREFIX + '{"kind": 3}',
        " " + PREFIX + '{"kind": "progress"}',
        PREFIX + '{"kind": "progress"',
    ],
)
def test_everything_else_is_the_jobs_own(line: str) -> None:
    assert parse(line) is None
