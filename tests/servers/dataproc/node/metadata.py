"""The metadata server that every instance of Compute Engine has at 169.254.169.254.

Runs inside nodes, with the standard library alone.
"""

from __future__ import annotations

import http.server
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

ADDRESS = "169.254.169.254"
_ROOT = "/computeMetadata/v1"


class Server(http.server.ThreadingHTTPServer):
    """Serves what is below ``instance/`` and ``project/``: a mapping is a folder, anything else a value.

    :param read: gives both; asked at every request, since metadata may change while an instance runs.
    """

    daemon_threads = True

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self.read = read
        super().__init__((ADDRESS, 80), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if self.headers.get("Metadata-Flavor") != "Google":
            return self._answer(403, "text/html", "Missing Metadata-Flavor:Google header.")
        if self.headers.get("X-Forwarded-For"):
            return self._answer(403, "text/html", "X-Forwarded-For is not allowed.")
        found: Any = self.server.read() if url.path.startswith(_ROOT) else None
        for part in url.path[len(_ROOT) :].strip("/").split("/"):
            if part:
                found = found.get(part) if isinstance(found, dict) else None
        if found is None:
            return self._answer(404, "text/html", f"{url.path} is not there")
        if not isinstance(found, dict):
            return self._answer(200, "application/text", str(found))
        if url.path.endswith("/token") or parse_qs(url.query).get("recursive") == ["true"]:
            return self._answer(200, "application/json", json.dumps(found))
        names = [f"{name}/" if isinstance(value, dict) else name for name, value in found.items()]
        return self._answer(200, "application/text", "".join(f"{name}\n" for name in names))

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: nobody reads it."""
