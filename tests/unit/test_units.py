"""Numbers with units: what is understood, and what is refused rather than guessed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.units import human_bytes, is_template, parse_bytes, parse_count, parse_seconds, parse_workers


@pytest.mark.parametrize(
    ("text", "count"),
    [("4 GiB", 4 * 2**30), ("500MB", 5 * 10**8), ("1.5 ki", 1536), (" 2 tb ", 2 * 10**12), ("8Gi", 8 * 2**30), (7, 7)],
)
def test_bytes(text: object, count: int) -> None:
    assert parse_bytes("memory", text) == count


@pytest.mark.parametrize("text", ["4GBs", "", "GiB", "-1 GB", "1e9", "0", 0, True, None, "1,5 GB", float("nan"), [1]])
def test_no_bytes(text: object) -> None:
    with pytest.raises(InvalidInput, match=r'^memory: .* is not possible; allowed: .*"4 GiB"'):
        parse_bytes("memory", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10 min", 600),
        ("1.5h", 5400),
        ("2 days", 172800),
        (timedelta(minutes=3), 180),
        ("45", 45),
        (0.5, 0.5),
    ],
)
def test_seconds(text: object, seconds: float) -> None:
    assert parse_seconds("idle", text) == seconds


@pytest.mark.parametrize("text", ["10 lightyears", 0, -1, "-5 min", timedelta(0), True, None, "", float("inf"), "1:30"])
def test_no_seconds(text: object) -> None:
    with pytest.raises(InvalidInput, match=r'^idle: .* is not possible; allowed: seconds above zero.*"10 min"'):
        parse_seconds("idle", text)


def test_counts() -> None:
    assert [parse_count("n", value) for value in (3, " 3 ")] == [3, 3]
    assert parse_count("n", 0, least=0) == 0
    for value in (0, -1, 2.0, "2.5", True, None, "many"):
        with pytest.raises(InvalidInput, match=r"allowed: a whole number of at least 1$"):
            parse_count("n", value)


def test_workers() -> None:
    assert [parse_workers("w", value) for value in (4, "4", (2, 10), ["0", "3"])] == [(4, 4), (4, 4), (2, 10), (0, 3)]
    for value, allowed in (
        (0, "at least 1"),
        ((3, 2), "minimum <= maximum"),
        ((0, 0), "at least 1"),
        ((1, 2, 3), "a pair"),
        ((), "a pair"),
        ("2-4", "a whole number"),
        ({"min": 1}, "a whole number"),
    ):
        with pytest.raises(InvalidInput, match=allowed) as refused:
            parse_workers("w", value)
        assert refused.value.field == "w"


def test_templates_and_human_bytes() -> None:
    assert [is_template(value) for value in ("{{ a }}", "{% if a %}", "{a}", 3)] == [True, True, False, False]
    counts = (0, 1023, 1288490189, 5 * 2**40)
    assert [human_bytes(count) for count in counts] == ["0 B", "1023 B", "1.2 GiB", "5.0 TiB"]
