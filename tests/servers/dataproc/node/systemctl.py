"""``systemctl`` of a node: hands its arguments to the node's first process.

Runs inside nodes, with the standard library alone.
"""

from __future__ import annotations

import json
import socket
import sys


def main(argv: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/systemd/stand-in")
        connection.sendall(json.dumps(argv).encode() + b"\n")
        code, text = json.loads(connection.makefile().read() or '[1, "the node is gone"]')
    if text:
        print(text, file=sys.stderr if code and text.startswith(("Failed", "the stand-in")) else sys.stdout)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
