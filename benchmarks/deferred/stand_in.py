"""The process that stand-in jobs name as theirs: it lives, and on demand reports progress for each, once a second.

`stand_in.py FOLDER`; on stdin a line with a number: so many jobs of FOLDER write from now on (0: silence).
"""

from __future__ import annotations

import selectors
import sys
import time
from pathlib import Path

from dask_provider.runtime.report import PREFIX

MESSAGE = '{{"kind": "progress", "done": {0}, "total": {0}, "erred": 0, "workers": 4, "memory": {1}}}\n'


def main(folder: Path) -> None:
    writing, beat = 0, 0
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            begin = time.monotonic()
            for index in range(1, writing + 1):
                with open(folder / str(index) / "output.log", "a") as log:
                    log.write(PREFIX + MESSAGE.format(beat, 2**30 + beat))
            beat += 1
            if selector.select(max(0.0, begin + 1 - time.monotonic())):
                line = sys.stdin.readline()
                if not line:
                    return
                writing = int(line)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
