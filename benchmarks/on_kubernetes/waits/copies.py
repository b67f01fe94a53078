"""Many Jobs and pods out of one, in an API server where nothing runs."""

from __future__ import annotations

import copy
import http.client
import json
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.on_kubernetes.waits.kubelet import NODE
from tests.servers.kubernetes import KubernetesServer

Object = dict[str, Any]
#: what the API server gives an object by itself
_OWN = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "generateName")
_STARTED = "2026-01-01T00:00:00Z"


class Copies:
    """Of a Job and its pod; number `n` has the names of both with `n` behind the Job's.

    :param job: as the API server shows it.
    :param pod: likewise, bound to the stand-in for a node.
    """

    def __init__(self, server: KubernetesServer, namespace: str, job: Object, pod: Object) -> None:
        self._namespace, self._job, self._pod = namespace, job, pod
        self._name: str = job["metadata"]["name"]
        self._host, _, port = server.url.partition("//")[2].rpartition(":")
        self._port = int(port)
        self._tls = ssl.create_default_context(cafile=str(server.ca))
        pki = server.state / "pki"
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._mine = threading.local()

    def make(self, count: int) -> None:
        """The Jobs, and pods that wait for their containers to be started."""
        self._all(count, self._make)

    def run(self, count: int) -> None:
        """From now on the pods run: the original's and those of the copies."""
        self._started(self._pod["metadata"]["name"])
        self._all(
            count, lambda number: self._started(self._pod["metadata"]["name"].replace(self._name, self._of(number)))
        )

    def _of(self, number: int) -> str:
        return f"{self._name}{number}"

    def _all(self, count: int, do: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(do, range(count)):
                pass

    def _make(self, number: int) -> None:
        job, pod = (_bare(made, self._name, self._of(number)) for made in (self._job, self._pod))
        del job["spec"]["selector"]  # the API server makes a new one
        labels = job["spec"]["template"]["metadata"]["labels"]
        for name in [name for name in labels if name.endswith(("controller-uid", "job-name"))]:
            del labels[name]
        pod["spec"]["nodeName"] = NODE
        self._call("POST", f"/apis/batch/v1/namespaces/{self._namespace}/jobs", job)
        self._call("POST", f"/api/v1/namespaces/{self._namespace}/pods", pod)

    def _started(self, pod: str) -> None:
        container = self._pod["spec"]["containers"][0]
        state = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "containerID": "containerd://0",
            "state": {"running": {"startedAt": _STARTED}},
        }
        status = {"phase": "Running", "startTime": _STARTED, "containerStatuses": [state]}
        self._call("PATCH", f"/api/v1/namespaces/{self._namespace}/pods/{pod}/status", {"status": status})

    def _call(self, method: str, path: str, body: Object) -> None:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=60, context=self._tls)
            self._mine.connection = connection
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300].decode(errors='replace')}")


def _bare(made: Object, old: str, new: str) -> Object:
    """A copy without what the API server adds, with another name wherever the old one stands."""
    found = copy.deepcopy(made)
    found.pop("status", None)
    for name in (*_OWN, "ownerReferences"):
        found["metadata"].pop(name, None)
    renamed: Object = json.loads(json.dumps(found).replace(old, new))
    return renamed
