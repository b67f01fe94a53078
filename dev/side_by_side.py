"""Runs commands at the same time: ``python -m dev.side_by_side 'first …' 'second …'``.

Of their output only whole lines are passed on, so that none cuts another's. The exit status is that of the first in the
list that failed; the others run to their end all the same.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def main(commands: list[str]) -> int:
    """Run them and wait for all; 130 after Ctrl-C, which ends them too."""
    running = [
        subprocess.Popen(["/bin/sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for command in commands
    ]
    with ThreadPoolExecutor(len(running)) as pool:
        try:
            list(pool.map(_pass_on, running))
            statuses = [process.wait() for process in running]
        except KeyboardInterrupt:  # the terminal has told them as well
            for process in running:
                process.wait()
            return 130
    return next((status for status in statuses if status), 0)


def _pass_on(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
