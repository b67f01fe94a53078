"""The first process of a node: its systemd, its metadata server and the undertaker of orphans.

Runs inside nodes, with the standard library alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import manager
import metadata
import services

CONFIG = Path("/etc/node-stand-in.json")


def main() -> None:
    child = os.fork()
    if child:  # the first process inherits every orphan; with its own child it ends, and the node with it
        while os.wait()[0] != child:
            pass
        return
    config = _config()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (metadata.ADDRESS, *config["nfs_servers"]):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    # Nothing but a port that can be reached: what is mounted from there, mount.nfs stands in for.
    ports = [socket.create_server((address, 2049)) for address in config["nfs_servers"]]
    services.DEFAULT_ENVIRONMENT |= config["environment"]
    server = metadata.Server(_config)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    manager.serve(manager.Manager())
    del ports


def _config() -> dict[str, Any]:
    return dict(json.loads(CONFIG.read_text()))


if __name__ == "__main__":
    main()
