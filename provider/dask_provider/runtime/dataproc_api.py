"""Dataproc, as the machines of one cluster ask it about this cluster: with the standard library, as their account."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

#: label of a cluster with its least and most workers: ``2-10``
LIMITS = "dask-provider-workers"
#: seconds before a request is sent again that was not answered, or whose answer was lost
AGAIN = (1.0, 4.0, 10.0, None)
#: seconds that containers of YARN have, if somebody runs some, before their machine goes
DECOMMISSION = 3600
_METADATA = "http://metadata.google.internal/computeMetadata/v1/"
_CLUSTER = (
    "project/project-id",
    "instance/attributes/dataproc-region",
    "instance/attributes/dataproc-cluster-name",
)


class Refused(Exception):
    """Dataproc does not do it, or does not answer.

    :param reason: such as ``FAILED_PRECONDITION``.
    :param heard_maybe: one of the tries had no answer: Dataproc may do it all the same.
    """

    def __init__(self, reason: str, message: str, *, heard_maybe: bool = False) -> None:
        super().__init__(f"{message} ({reason})")
        self.reason, self.heard_maybe = reason, heard_maybe

    @property
    def is_quota(self) -> bool:
        """Whether fewer machines might be had."""
        return "quota" in str(self).lower()


@dataclass(frozen=True)
class State:
    """What Dataproc says of the cluster.

    :param low: workers there are at least, ``high`` at most.
    :param primary: number of those that stay.
    :param secondary: number of the others that Dataproc is to keep; some of them may not be there yet.
    :param names: of the machines of these others.
    """

    state: str
    low: int
    high: int
    primary: int
    secondary: int
    names: tuple[str, ...]


def read(cluster: Mapping[str, Any]) -> State:
    """The state in an answer of ``clusters.get``."""
    config = cluster["config"]
    primary, secondary = config.get("workerConfig") or {}, config.get("secondaryWorkerConfig") or {}
    low, _, high = cluster["labels"][LIMITS].partition("-")
    return State(
        cluster["status"]["state"],
        int(low),
        int(high),
        int(primary.get("numInstances") or 0),
        int(secondary.get("numInstances") or 0),
        tuple(secondary.get("instanceNames") or ()),
    )


class Dataproc:
    """Dataproc, as the machines' account speaks to it about this cluster. Blocks.

    :param endpoint: URL of the API instead of Google's own.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self._host, self._path = endpoint or "", ""

    def get(self) -> State:
        """:raises Refused:"""
        return read(self._call("GET", ""))

    def add(self, secondary: int) -> str:
        """Have so many secondary workers, which is more than there are: the name of the operation.

        :raises Refused:
        """
        query = f"?updateMask=config.secondary_worker_config.num_instances&requestId={uuid.uuid4()}"
        body = {"config": {"secondaryWorkerConfig": {"numInstances": secondary}}}
        return str(self._call("PATCH", query, body)["name"])

    def remove(self, names: Collection[str]) -> str:
        """Delete these machines: the name of the operation.

        :raises Refused:
        """
        pool = {"id": "SECONDARY_WORKER_POOL", "instanceNames": sorted(names), "repairAction": "DELETE"}
        body = {
            "nodePools": [pool],
            "gracefulDecommissionTimeout": f"{DECOMMISSION}s",
            "requestId": str(uuid.uuid4()),
        }
        return str(self._call("POST", ":repair", body)["name"])

    def ended(self, operation: str) -> str | None:
        """What went wrong with an operation, ``""`` for nothing; ``None`` while it is under way.

        :raises Refused:
        """
        found = self._call("GET", "", path=operation)
        return str((found.get("error") or {}).get("message") or "") if found.get("done") else None

    def _call(self, method: str, rest: str, body: object = None, *, path: str = "") -> dict[str, Any]:
        try:
            if not self._path:
                project, region, name = map(_metadata, _CLUSTER)
                self._host = self._host or f"https://{region}-dataproc.googleapis.com"
                self._path = f"projects/{project}/regions/{region}/clusters/{name}"
            token = json.loads(_metadata("instance/service-accounts/default/token"))["access_token"]
        except (OSError, ValueError, KeyError) as error:
            raise Refused(type(error).__name__, str(error)) from None
        request = urllib.request.Request(
            f"{self._host}/v1/{path or self._path}{rest}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            method=method,
        )
        return _answer(request)


def _answer(request: urllib.request.Request) -> dict[str, Any]:
    """What Dataproc answers. Asked again and again, also for what it has done already: it knows the ``requestId``.

    :raises Refused:
    """
    heard_maybe = False
    for pause in AGAIN:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError) as error:
            code = getattr(error, "code", 503)
            heard_maybe = heard_maybe or code >= 500
            if pause is None or (code < 500 and code != 429):
                raise _refusal(error, heard_maybe) from None
            time.sleep(pause)
    raise AssertionError("the last try says how it ended")


def _metadata(path: str) -> str:
    request = urllib.request.Request(_METADATA + path, headers={"Metadata-Flavor": "Google"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def _refusal(error: Exception, heard_maybe: bool) -> Refused:
    if not isinstance(error, urllib.error.HTTPError):
        return Refused(type(error).__name__, str(error), heard_maybe=heard_maybe)
    status, content = f"HTTP {error.code}", error.read()
    try:
        said = json.loads(content)["error"]
        return Refused(said.get("status") or status, said.get("message") or "", heard_maybe=heard_maybe)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refused(status, content[:300].decode(errors="replace"), heard_maybe=heard_maybe)
