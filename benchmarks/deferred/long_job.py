"""A job with something to do every second, until somebody ends it."""

from __future__ import annotations

import time

from dask.distributed import Client


def square(number: int) -> int:
    return number * number


if __name__ == "__main__":
    with Client() as client:
        for start in range(0, 10**9, 10):
            client.gather(client.map(square, range(start, start + 10)))
            time.sleep(1)
