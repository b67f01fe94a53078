"""Names that are found again, and what a try number says about older work."""

from __future__ import annotations

import dataclasses
import re

import pytest
from dask_provider.owner import Attempt, Owner

OWNER = Owner("prod", "flights_daily", "scheduled__2024-01-01T00:00:00+00:00", "etl.run")


def test_names_fit_everywhere_and_stay_the_same() -> None:
    assert OWNER.name == "dask-flights-daily-etl-run-86300a854c"
    odd = Owner("prod", "Ünder_score." * 30, "r" * 250, "__" + "x" * 250, 12345)
    for owner in (OWNER, odd, Owner("", "", "", "")):
        assert re.fullmatch(r"[a-z][a-z0-9-]{0,48}[a-z0-9]", owner.name), owner.name
        assert "--" not in owner.name


def test_every_part_of_an_owner_makes_another_name() -> None:
    changes = [
        {"instance": "test"},
        {"dag_id": "flights-daily"},
        {"run_id": "manual"},
        {"task_id": "etl-run"},
        {"map_index": 0},
    ]
    others = {dataclasses.replace(OWNER, **change).name for change in changes}
    assert len(others | {OWNER.name}) == 6
    assert Owner("a", "bc", "d", "e").name != Owner("ab", "c", "d", "e").name, "parts do not run into each other"


def test_labels_make_the_owner_again() -> None:
    mapped = dataclasses.replace(OWNER, map_index=3)
    assert Owner.from_labels(mapped.labels()) == mapped
    assert set(map(type, mapped.labels().values())) == {str}
    with pytest.raises(KeyError, match="instance"):
        Owner.from_labels({"dag_id": "x"})


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retries", "fresh", "last"),
    [
        (1, 0, 0, True, True),
        (1, 2, 2, True, False),
        (2, 2, 2, False, False),
        (3, 2, 2, False, True),
        # Cleared after the first try: max_tries = 1 + 2.
        (2, 3, 2, True, False),
        (3, 3, 2, False, False),
        (4, 3, 2, False, True),
        # Cleared after all three tries, then again after one more.
        (4, 5, 2, True, False),
        (5, 6, 2, True, False),
        # Without retries every clear makes one last try.
        (2, 1, 0, True, True),
    ],
)
def test_attempts(try_number: int, max_tries: int, retries: int, fresh: bool, last: bool) -> None:
    since = max_tries - retries + 1
    made = Attempt.of(try_number, max_tries, retries, started=7, deadline=9)
    assert made == Attempt(try_number, fresh, last, since, started=7, deadline=9)


@pytest.mark.parametrize(
    ("number", "started", "overtaken"),
    [
        (1, 50, False),  # its own, or one that it has adopted
        (2, 100, False),  # of this very try, in another process
        (2, 50, False),  # what a run has left that was deleted and made anew, with the same number
        (3, 50, False),  # or with a higher one
        (3, 150, True),  # the next try
        (2, 150, True),  # the run was deleted and made anew while this process lived
        (1, 150, False),  # the try before, by a clock that is ahead
        (1, 500, True),  # made anew long after this process had begun
        (0, 0, False),  # nobody's, or of a time when nothing was written
    ],
)
def test_who_finds_the_job_of_a_newer_try(number: int, started: float, overtaken: bool) -> None:
    assert Attempt(2, fresh=False, last=False, started=100).is_overtaken_by(number, started) == overtaken
