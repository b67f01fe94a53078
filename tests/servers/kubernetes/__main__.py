"""The test cluster for humans: ``python -m tests.servers.kubernetes build|up|env|down``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.servers.kubernetes.images import DASK_IMAGE
from tests.servers.kubernetes.prepare import prepare
from tests.servers.kubernetes.start import running_kubernetes, shell_settings, start_kubernetes, stop_kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.kubernetes", description=__doc__)
    parser.add_argument("command", choices=["build", "up", "env", "down"])
    parser.add_argument("--api", action="store_true", help="only the API server: no pods, needs no root")
    options = parser.parse_args()
    mode = "api" if options.api else "node"
    began = time.monotonic()
    try:
        if options.command == "build":
            prepare(mode, _say)
        elif options.command == "up":
            server = running_kubernetes(mode) or start_kubernetes(mode, keep=True, say=_say)
            server.start_operator()
            has = "no node for pods" if options.api else f"the image {DASK_IMAGE}"
            print(f"Kubernetes runs ({time.monotonic() - began:.1f} s) and has {has}. For your shell:\n")
            print(shell_settings(server))
            end = "python -m tests.servers.kubernetes down --api" if options.api else "make kubernetes-down"
            print(f"\nLogs: {server.state / 'log'}. `{end}` ends it.")
        elif options.command == "env":
            if not (running := running_kubernetes(mode)):
                print("no Kubernetes runs: `make kubernetes-up`", file=sys.stderr)
                return 1
            print(shell_settings(running))
        elif stop_kept(mode):
            print(f"Kubernetes is gone ({time.monotonic() - began:.1f} s)")
    except RuntimeError as error:
        print(f"Kubernetes: {error}", file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
