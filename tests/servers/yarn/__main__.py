"""The test YARN for humans: ``python -m tests.servers.yarn build|up|env|down``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.servers.yarn.jars import hadoop_jars
from tests.servers.yarn.server import running_yarn, shell_settings, start_yarn, stop_kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.yarn", description=__doc__)
    parser.add_argument("command", choices=["build", "up", "env", "down"])
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="NodeManagers [%(default)s]")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        if options.command == "build":
            hadoop_jars(_say)
        elif options.command == "up":
            server = running_yarn() or start_yarn(options.nodes, say=_say)
            print(f"YARN runs ({time.monotonic() - began:.1f} s): {server.url}. For your shell:\n")
            print(shell_settings(server))
            print(f"\nLogs: {server.state / 'log'}. `python -m tests.servers.yarn down` ends it.")
        elif options.command == "env":
            if not (running := running_yarn()):
                print("no YARN runs: `python -m tests.servers.yarn up`", file=sys.stderr)
                return 1
            print(shell_settings(running))
        elif stop_kept():
            print(f"YARN is gone ({time.monotonic() - began:.1f} s)")
    except RuntimeError as error:
        print(f"YARN: {error}", file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
