"""YARN's ResourceManager by its REST API: what skein cannot ask, and no Java process beside us is needed for."""

from __future__ import annotations

import getpass
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from .dask_side import NotReady

#: states in which an application stays
OVER = ("FINISHED", "FAILED", "KILLED")
#: seconds for which none may answer
PATIENCE = 20.0
_NOT_OVER = "NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING"


class ResourceManager:
    """The one that Hadoop's settings of this machine name, and of several the active one.

    All methods raise :class:`.NotReady` when none answers for 20 s, as after a failover, and when it refuses.
    """

    def __init__(self) -> None:
        self._urls = web_addresses(hadoop_settings("yarn-site"))
        self._active = ""

    def application(self, identity: str) -> dict[str, Any]:
        """``state``, ``finalStatus``, ``diagnostics``, ``applicationTags`` and what else YARN knows of it."""
        return dict(self._ask("GET", f"apps/{identity}")["app"])

    def find(self, tags: tuple[str, ...]) -> list[dict[str, Any]]:
        """Applications with all of these tags that are not over."""
        query = urllib.parse.urlencode({"states": _NOT_OVER, "applicationTags": ",".join(tags)})
        found = (self._ask("GET", f"apps?{query}")["apps"] or {}).get("app", [])
        # YARN answers with those that have any of them, and keeps tags in lower case.
        wanted = {tag.lower() for tag in tags}
        return [app for app in found if wanted <= set(app["applicationTags"].lower().split(","))]

    def free(self) -> tuple[int, int]:
        """MiB and vcores that no container has."""
        metrics = self._ask("GET", "metrics")["clusterMetrics"]
        return int(metrics["availableMB"]), int(metrics["availableVirtualCores"])

    def end_at(self, identity: str, at: float) -> None:
        """Let the ResourceManager kill it at this time (seconds since 1970), with everybody else dead."""
        expiry = time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime(at))
        self._ask("PUT", f"apps/{identity}/timeout", {"timeout": {"type": "LIFETIME", "expiryTime": expiry}})

    def kill(self, identity: str) -> None:
        """Ask for its end. Already over is fine."""
        self._ask("PUT", f"apps/{identity}/state", {"state": "KILLED"})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._active = self._active or self._find()
                return _answer(self._active, method, path, body)
            except (OSError, ValueError, KeyError) as error:
                self._active = ""
                if time.monotonic() > deadline:
                    raise NotReady(f"no ResourceManager answers: {error}") from error
            time.sleep(0.3)

    def _find(self) -> str:
        """The active one: another may have taken over."""
        why = ""
        for url in self._urls:
            try:
                state = _answer(url, "GET", "info")["clusterInfo"].get("haState", "ACTIVE")
            except (OSError, ValueError) as error:
                why += f" {url}: {error};"
                continue
            if state == "ACTIVE":
                return url
            why += f" {url} is {state};"
        raise OSError(why.strip(" ;"))


def _answer(url: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    url = f"{url}/ws/v1/cluster/{path}"
    if body is not None:  # who asks; without Kerberos the ResourceManager believes it
        url += f"?user.name={urllib.parse.quote(os.environ.get('HADOOP_USER_NAME') or getpass.getuser())}"
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read().decode(errors="replace").split())[:500]
        if error.code < 500:
            raise NotReady(f"the ResourceManager answers {error.code} to {method} {path}: {said}") from error
        raise
    return json.loads(text) if text else None


def hadoop_settings(name: str) -> dict[str, str]:
    """The settings of one file below ``HADOOP_CONF_DIR``.

    :raises NotReady: this machine has none.
    """
    folders = [os.environ.get("YARN_CONF_DIR"), os.environ.get("HADOOP_CONF_DIR"), "/etc/hadoop/conf"]
    for folder in filter(None, folders):
        file = Path(folder) / f"{name}.xml"
        if file.exists():
            found = ElementTree.parse(file).iter("property")
            return {entry.findtext("name", "").strip(): entry.findtext("value", "").strip() for entry in found}
    raise NotReady(f"no {name}.xml in HADOOP_CONF_DIR or /etc/hadoop/conf: is this a node of a YARN cluster?")


def web_addresses(settings: dict[str, str]) -> list[str]:
    """URLs at which a ResourceManager may answer, one for each of a highly available set."""
    rm = "yarn.resourcemanager"
    identities = settings.get(f"{rm}.ha.rm-ids", "") if settings.get(f"{rm}.ha.enabled") == "true" else ""
    suffixes = [f".{identity.strip()}" for identity in identities.split(",") if identity.strip()] or [""]
    found = []
    for suffix in suffixes:
        host = settings.get(f"{rm}.hostname{suffix}", "0.0.0.0")
        address = settings.get(f"{rm}.webapp.address{suffix}", f"{host}:8088").replace(f"${{{rm}.hostname}}", host)
        found.append(f"http://{address.replace('0.0.0.0', '127.0.0.1')}")
    return found
