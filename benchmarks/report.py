"""Tables on the terminal and JSON in `results/`, with the facts without which a number says nothing."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("apache-airflow", "apache-airflow-task-sdk", "dask", "distributed", "airflow-provider-dask")


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def save(name: str, facts: dict[str, Any], result: dict[str, Any], packages: Iterable[str] = ()) -> Path:
    """Writes results/<name>.json; `facts` are those that `machine()` gave before the measurement."""
    RESULTS.mkdir(exist_ok=True)
    record = {
        "benchmark": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": facts,
        "versions": versions([*PACKAGES, *packages]),
        **result,
    }
    path = RESULTS / f"{name}.json"
    checkout = f"{RESULTS.parents[1]}/"  # in logs of what failed
    path.write_text(json.dumps(record, indent=2).replace(checkout, "") + "\n")
    return path


def median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def summary(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    return {
        "median": round(median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, numbers to the right."""
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    print(f"\n{title}\n")
    for row in table:
        cells = [cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in _numbered(row, widths)]
        print(("  " + "  ".join(cells)).rstrip())
    print(flush=True)


def _numbered(row: Sequence[str], widths: Sequence[int]) -> Iterable[tuple[int, tuple[str, int]]]:
    return enumerate(zip(row, widths, strict=True))
