"""One output for each input: which there are, which are missing, and that an output which is there is complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.publish.files import (
    UNFINISHED,
    FileWork,
    fill,
    find_inputs,
    finished,
    forget_unfinished,
    plan_outputs,
    prepare,
    publish,
)

JOB = "dask-files-jan-run-0123456789-1"


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return made(tmp_path, "in/jan.csv", "in/feb.csv", "in/notes.txt", "in/2024/mar.csv", "in/.csv/x")


def works(lake: Path, pattern: str = "in/*.csv", output: str = "out/{stem}.parquet") -> list[FileWork]:
    return plan_outputs(find_inputs(f"{lake}/{pattern}"), f"{lake}/{output}")


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_inputs_by_pattern(lake: Path, scheme: str) -> None:
    found = find_inputs(f"{scheme}{lake}/in/*.csv")
    assert found == {
        f"{lake}/in/feb.csv": {"name": "feb.csv", "stem": "feb", "folder": ""},
        f"{lake}/in/jan.csv": {"name": "jan.csv", "stem": "jan", "folder": ""},
    }
    deep = find_inputs(f"{scheme}{lake}/in/**/*.csv")
    assert deep[f"{lake}/in/2024/mar.csv"] == {"name": "mar.csv", "stem": "mar", "folder": "2024/"}
    assert set(find_inputs(f"{lake}/in/[j]a?.csv")) == {f"{lake}/in/jan.csv"}
    assert find_inputs(f"{lake}/in/*.json") == {}


def test_what_is_unfinished_is_no_input(lake: Path) -> None:
    made(lake, f"in/{UNFINISHED}/{JOB}/apr.csv")
    assert not [uri for uri in find_inputs(f"{lake}/**/*.csv") if UNFINISHED in uri]


@pytest.mark.parametrize("pattern", ["in/jan.csv", "nowhere/*.csv", ""])
def test_inputs_that_cannot_be(lake: Path, pattern: str) -> None:
    with pytest.raises(InvalidInput, match=r"^inputs: "):
        find_inputs(f"{lake}/{pattern}")


def test_outputs(lake: Path) -> None:
    feb, jan = works(lake)
    assert (jan.input, jan.output) == (f"{lake}/in/jan.csv", f"file://{lake}/out/jan.parquet")
    assert jan.words(JOB) == {
        "input": f"{lake}/in/jan.csv",
        "output": f"{lake}/out/{UNFINISHED}/{JOB}/jan.parquet",
        "name": "jan.csv",
        "stem": "jan",
    }
    assert FileWork.from_dict(feb.to_dict()) == feb
    deep = works(lake, "in/**/*.csv", "out/{folder}{name}.parquet")
    assert "2024/mar.csv.parquet" in [work.path for work in deep]


@pytest.mark.parametrize("output", ["out/all.parquet", "out/{stem}/", "out/{month}.csv", "out/{folder}x", "out/"])
def test_outputs_that_cannot_be(lake: Path, output: str) -> None:
    with pytest.raises(InvalidInput, match=r"^output: .*one file for each input"):
        works(lake, output=output)


def test_two_inputs_with_one_output(lake: Path) -> None:
    made(lake, "in/2024/jan.csv")
    with pytest.raises(InvalidInput, match=r"/in/(2024/)?jan\.csv and .*jan\.csv have one output"):
        works(lake, "in/**/*.csv")


def test_names_are_data() -> None:
    words = {"input": "{output} {{ ds }}", "output": "there"}
    assert fill(["{input}", {"a": '{"b": 1} {else} {output}'}], words) == [
        "{output} {{ ds }}",
        {"a": '{"b": 1} {else} there'},
    ]
    work = FileWork("/in/$(X) $$.csv", "file:///out/", "$(X) $$.parquet")
    shown = work.words("$(DASK_JOB_ID)", lambda text: text.replace("$", "$$"))
    assert shown["input"] == "/in/$$(X) $$$$.csv"
    assert shown["output"] == f"/out/{UNFINISHED}/$(DASK_JOB_ID)/$$(X) $$$$.parquet"


def test_an_output_counts_once_it_is_published(lake: Path) -> None:
    feb, jan = works(lake)
    assert finished([feb, jan]) == set()
    prepare(jan, JOB)
    unfinished = Path(jan.words(JOB)["output"])
    unfinished.write_text("half")
    assert finished([feb, jan]) == set()
    unfinished.write_text("all of it")
    assert publish(jan, JOB) == 9
    assert finished([feb, jan]) == {"jan.parquet"}
    assert (lake / "out" / "jan.parquet").read_text() == "all of it"
    assert publish(jan, JOB) is None, "it is not there any more"
    assert publish(feb, JOB) is None


def test_outputs_in_folders(lake: Path) -> None:
    deep = works(lake, "in/**/*.csv", "out/{folder}{stem}.parquet")
    for work in deep:
        prepare(work, JOB)
        Path(work.words(JOB)["output"]).write_text("x")
        publish(work, JOB)
    assert finished(deep) == {"2024/mar.parquet", "feb.parquet", "jan.parquet"}


def test_what_jobs_left_is_removed_but_not_that_of_others(lake: Path) -> None:
    feb, jan = works(lake)
    other = "dask-other-run-9876543210-1"
    for job in (JOB, other):
        prepare(jan, job)
        Path(jan.words(job)["output"]).write_text("half")
    names = {JOB.removesuffix("-1")}
    assert forget_unfinished([feb, jan], names) == 1
    assert [path.name for path in (lake / "out" / UNFINISHED).iterdir()] == [other]
    assert forget_unfinished([], names) == 0
    assert forget_unfinished([feb], {other.removesuffix("-1")}) == 1
    assert list((lake / "out").iterdir()) == []
