"""Who has asked the API server for what: its audit log, which the benchmarks switch on."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.servers.kubernetes import KubernetesServer

#: one line for each request of a service account that is not Kubernetes' own, two for one that lasts (watch, log)
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


class AuditLog:
    """Requests by the service account that sent them: each side of a comparison has an account of its own."""

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0
        self._open: dict[str, tuple[str, str]] = {}

    @classmethod
    def switch_on(cls, server: KubernetesServer) -> AuditLog:
        """Starts the API server anew with an audit log: nothing else of the cluster needs to know."""
        policy, path = server.state / "conf" / "audit.yaml", server.state / "log" / "audit.json"
        policy.write_text(json.dumps(POLICY))
        path.touch()
        record = json.loads((server.daemons.folder / "apiserver.json").read_text())
        options = {"policy-file": policy, "log-path": path, "log-maxsize": 100_000}
        more = [f"--audit-{name}={value}" for name, value in options.items()]
        server.control("stop", "apiserver")
        server.daemons.launch("apiserver", [*record["command"], *more], record["env"])
        server.wait_ready()
        return cls(path)

    def new(self) -> dict[str, Counter[str]]:
        """What was asked since the last call: for each account, how often each ``verb resource``."""
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for event in self._events():
            account = event["user"]["username"].rpartition(":")[2]
            what = _words(event)
            key = event["auditID"]
            if event["stage"] == "ResponseStarted":
                self._open[key] = (account, what)
                counted[account][what] += 1
            elif key in self._open:  # counted when it began
                del self._open[key]
            else:
                counted[account][what] += 1
        return dict(counted)

    def lasting(self, account: str) -> Counter[str]:
        """The requests of an account that are being answered by now, as :meth:`new` has seen it."""
        return Counter(what for who, what in self._open.values() if who == account)

    def _events(self) -> list[dict[str, Any]]:
        with self._path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # the last line may not be complete yet
        self._position += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def _words(event: dict[str, Any]) -> str:
    about = event.get("objectRef") or {}
    resource = about.get("resource") or event["requestURI"].partition("?")[0]
    subresource = about.get("subresource")
    return f"{event['verb']} {resource}{f'/{subresource}' if subresource else ''}"
