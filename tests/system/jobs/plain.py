"""A program that knows no Dask: a line a second until its gate is there. When it is told to end, it exits with 0."""

import os
import signal
import sys
import time

witness, gate = sys.argv[1:]


def note(what: str) -> None:
    """One short append: whole, even when several processes write."""
    line = f"{what} {os.environ['DASK_JOB_ID']} {os.getpid()} {time.time():.3f}\n"
    with open(os.open(witness, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "w") as file:
        file.write(line)


def told_to_end(*_: object) -> None:
    """Tidies up and is content, as many programs are."""
    note("terminated")
    print("ends in good order", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, told_to_end)
note("start")
count = 0
while not os.path.exists(gate):
    time.sleep(1)
    count += 1
    print("line", count, flush=True)
print("lines in all:", count, flush=True)
note("end")
