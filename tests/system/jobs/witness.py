"""A job that leaves a line when it starts and one when it ends, and does some work on the cluster between."""

import argparse
import os
import sys
import time
from pathlib import Path

import fsspec
from distributed import Client


def note(path: Path, what: str) -> None:
    """One short append: whole, even when several processes write."""
    line = f"{what} {os.environ['DASK_JOB_ID']} {os.getpid()} {time.time():.3f}\n"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "w") as file:
        file.write(line)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--witness", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--gate", type=Path, default="/", help="goes on at least until that is there")
    parser.add_argument("--fail-times", type=int, default=0, help="how many starts end with an error")
    options = parser.parse_args()
    note(options.witness, "start")
    starts = options.witness.read_text().count("start ")
    with Client() as client:
        print("the answer is", client.submit(sum, range(10)).result())
        ends = time.time() + options.seconds
        count = 0
        while time.time() < ends or not options.gate.exists():
            time.sleep(0.2)
            count += 1
            if count % 5 == 0:
                print("line", count // 5)
        print("lines in all:", count // 5)
    if starts <= options.fail_times:
        raise ValueError(f"start {starts} is meant to fail")
    with fsspec.open(os.environ["DASK_JOB_RESULTS"] + "answer.txt", "w") as file:
        file.write("45")
    note(options.witness, "end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
