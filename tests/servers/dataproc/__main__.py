"""The emulator for humans and containers: ``python -m tests.servers.dataproc up``. Ctrl-C ends it and its clusters."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from tests.servers.dataproc.app import make_app
from tests.servers.dataproc.grpcdoor import add_grpc
from tests.servers.dataproc.server import PLAIN
from tests.servers.listening import stop

if TYPE_CHECKING:
    from tests.servers.gcs import GCSServer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.dataproc", description=__doc__)
    parser.add_argument("command", choices=["up"])
    parser.add_argument("--listen", default="127.0.0.1:8780", help="address and port (%(default)s)")
    parser.add_argument("--grpc", default="127.0.0.1:8781", help="the same over gRPC, or empty (%(default)s)")
    parser.add_argument("--gcs", default="", help="URL of the GCS server; without it one is started")
    parser.add_argument("--folder", type=Path, default=Path(".test/dataproc"), help="of the state (%(default)s)")
    parser.add_argument("--nodes", default=PLAIN, help="who makes the nodes, module:factory (%(default)s)")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    module, _, factory = options.nodes.partition(":")
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "address").write_text(options.listen)  # for nodes that speak to it
    gcs = None if options.gcs else _start_gcs(folder / "gcs")
    gcs_url = gcs.url if gcs else options.gcs
    print(
        f"Dataproc: http://{options.listen}, gRPC: {options.grpc}, its GCS: {gcs_url}, its state: {folder}", flush=True
    )
    try:
        app = make_app(folder, gcs_url, getattr(import_module(module), factory))
        if options.grpc:
            add_grpc(app, options.grpc, f"http://{options.listen.replace('0.0.0.0', '127.0.0.1')}")
        web.run_app(app, host=host, port=int(port), print=None, shutdown_timeout=1)
    finally:
        if gcs:
            stop(gcs.process)
    return 0


def _start_gcs(folder: Path) -> GCSServer:
    from tests.servers.gcs import start_gcs  # pytest comes with it, which nobody needs who has a server

    return start_gcs(folder)


if __name__ == "__main__":
    sys.exit(main())
