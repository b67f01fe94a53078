"""What a finished run left: its numbers, the place where they are stored, the cluster's end, the time it took."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dev.airflow_server import AirflowClient, TaskInstance
from dev.airflow_server.processes import Process, all_processes


def point_latest(results: Path) -> Path | None:
    """Makes `results/latest` the newest stored result, unless a folder of that name is there. None: nothing stored."""
    latest = results / "latest"
    if latest.is_dir() and not latest.is_symlink():
        return latest
    stored = [
        summary for summary in results.rglob("summary.json") if "latest" not in summary.relative_to(results).parts
    ]
    if not stored:
        return None
    newest = max(stored, key=lambda summary: summary.stat().st_mtime).parent
    fresh = results / ".latest"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(newest.relative_to(results))
    fresh.replace(latest)
    return latest


def result_lines(latest: Path) -> list[str]:
    import pyarrow.parquet

    summary = json.loads((latest / "summary.json").read_text())
    carriers = pyarrow.parquet.read_table(latest / "carriers").to_pylist()
    carriers.sort(key=lambda row: -int(row["flights"]))
    rows = [
        (
            str(row["carrier"]),
            str(row.get("name") or ""),
            f"{row['flights']:,}",
            f"{row['cancelled']:,}",
            _number(row["mean_arr_delay"], "{:.1f} min"),
            _number(row["share_delayed_15"], "{:.0%}"),
        )
        for row in carriers
    ]
    head = ("", "carrier", "flights", "cancelled", "mean arrival delay", "later than 15 min")
    mean = _number(summary["mean_arr_delay"], "{:.1f} min")
    return [
        f"{summary['flights']:,} flights from {summary['first_day']} to {summary['last_day']}, "
        f"{summary['cancelled']:,} cancelled, mean arrival delay {mean}",
        "",
        *_table([head, *rows], left=2),
    ]


def clusters(
    client: AirflowClient, dag_id: str, run_id: str, instances: Iterable[TaskInstance]
) -> list[dict[str, Any]]:
    """Handles of the clusters that the run made, as its create steps returned them."""
    found = []
    for instance in instances:
        if instance.start_date is not None:
            value = client.xcom(dag_id, run_id, instance.task_id, map_index=instance.map_index)
            if isinstance(value, dict) and {"place", "name", "uid"} <= value.keys():
                found.append(value)
    return found


def left_behind(state: Path) -> list[Process]:
    """Processes of clusters and jobs: each has a path below the state folder in its command line."""
    return [process for process in all_processes() if f"{state}/" in process.command]


def duration_lines(steps: Sequence[tuple[str, float]], instances: Iterable[TaskInstance]) -> list[str]:
    rows = [(name, f"{seconds:.1f} s") for name, seconds in steps]
    done = [instance for instance in instances if instance.start_date is not None]
    for instance in sorted(done, key=lambda instance: str(instance.start_date)):
        rows.append((f"  task {instance.label}", f"{instance.duration or 0:.1f} s"))
    return _table(rows, left=1)


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


def _table(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Columns as wide as they must be; the first `left` ones aligned to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
