"""Written by dask.sh. What its services and its own checks ask of Dask; the standard library alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any


def ask(url: str, body: object = None, timeout: float = 5) -> Any:
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def identity(url: str) -> Any:
    """The id of the scheduler: another one after each of its starts. None while it does not answer."""
    try:
        return ask(f"{url}/dask-node/id")["id"]
    except (OSError, ValueError, KeyError):
        return None


def dask_setup(scheduler: Any) -> None:
    """Called in the scheduler, which has this file as a preload: it tells its id, once workers can reach it.

    One whose port is taken answers for a moment, too, before it ends. Dask's own ``/json/identity.json`` is an error of
    the server as soon as workers have work.
    """
    from distributed.http.utils import RequestHandler

    class Identity(RequestHandler):
        def get(self) -> None:
            if scheduler.status.name == "running":
                self.write({"id": scheduler.id})
            else:
                self.set_status(503)

    scheduler.http_application.add_handlers(".*$", [("/dask-node/id", Identity, {"dask_server": scheduler})])


def workers(url: str, name: str) -> list[str]:
    found = ask(f"{url}/api/v1/get_workers")["workers"]
    return [worker["address"] for worker in found if str(worker["name"]) == name]


def scheduler(url: str) -> None:
    """Exit code 0: it runs, and its API answers."""
    try:
        ask(f"{url}/dask-node/id")
        ask(f"{url}/api/v1/get_workers")
    except (OSError, ValueError) as error:
        sys.exit(f"{url}: {error}")


def joined(url: str, name: str) -> None:
    """Exit code 0: the scheduler has the worker of this name."""
    try:
        sys.exit(not workers(url, name))
    except (OSError, ValueError) as error:
        sys.exit(f"{url}: {error}")


def goes(url: str, name: str) -> bool | None:
    """Whether this node is to be removed. None where nobody removes nodes for want of work."""
    try:
        return name in ask(f"{url}/dask-elastic/away")
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError):
        return True  # it is asked again


def work(url: str, name: str, *command: str) -> None:
    """Run a worker for as long as the scheduler wants it.

    A worker ends with exit code 0 both when it was retired and when its scheduler is gone. It shall start again in the
    second case, so that a scheduler that comes back has workers, and in the first one where its node was to be removed
    and stays after all.
    """
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    while (served := identity(url)) is None:
        time.sleep(1)
    process = subprocess.Popen(command)

    def end(number: int, frame: object) -> None:
        ended.append(number)
        process.terminate()

    signal.signal(signal.SIGTERM, end)
    code = process.wait()
    if ended:
        sys.exit(0)
    if code == 0 and identity(url) != served:
        sys.exit("the scheduler of this worker is gone")
    if code == 0 and goes(url, name) is not None:
        while goes(url, name) and identity(url) == served:
            time.sleep(1)
            if ended:
                sys.exit(0)
        sys.exit("this node stays: there is work for it")
    sys.exit(code if code >= 0 else 128 - code)


def retire(url: str, name: str, seconds: str) -> None:
    """Move the results of this node's worker to others, and let it get no new tasks. Never fails: the node ends."""
    try:
        addresses = workers(url, name)
        left = ask(f"{url}/api/v1/retire_workers", {"workers": addresses}, float(seconds)) if addresses else {}
        print(f"retire: {len(left)} of {len(addresses)} workers of {name} handed over what they had", flush=True)
    except (OSError, ValueError) as error:
        print(f"retire: {name} ends without handing over: {error}", flush=True)


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "scheduler": scheduler,
        "joined": joined,
        "work": work,
        "retire": retire,
    }
    commands[sys.argv[1]](*sys.argv[2:])
