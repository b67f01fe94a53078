"""Lets dask-yarn 0.9, which stopped at distributed 2022.2, run unchanged on current distributed.

One file of the standard library, of use under three names:

``sitecustomize.py``      in a folder on PYTHONPATH: for one process and its children
``dask_yarn_compat.py``   in an environment, put there by ``python yarn_compat.py install``: for all that use it
``yarn_compat.py``        to be called: :func:`activate`

Nothing else is imported until something imports ``dask_yarn``. The containers of a ``YarnCluster`` need only dask-yarn:
this file is sent along.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import CodeType, ModuleType
from typing import Any

INSTALLED = "dask_yarn_compat"


def activate() -> None:
    """From now on ``import dask_yarn`` works in this process. Once is enough, twice does no harm."""
    if not any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Changes parts of dask-yarn right after they were loaded."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "dask_yarn":
            _give_back_names()
        after = {"dask_yarn.core": _change_core, "dask_yarn.cli": _change_cli}.get(name)
        spec = PathFinder.find_spec(name, path) if after else None
        if spec is not None:
            spec.loader = _Changing(spec.loader, after)
        return spec


class _Changing(Loader):
    def __init__(self, loader: Any, after: Any) -> None:
        self._loader, self._after = loader, after

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._after(module)

    def get_code(self, name: str) -> CodeType:
        """``python -m`` runs code and executes no module."""
        return compile(f"import {name} as module\nmodule.main()", f"<{name}>", "exec")


def _give_back_names() -> None:
    """What dask-yarn imports and distributed has no more."""
    import dask.utils
    import distributed.cli.utils
    import distributed.utils

    for name in ("format_bytes", "parse_timedelta"):
        if not hasattr(distributed.utils, name):
            setattr(distributed.utils, name, getattr(dask.utils, name))
    if not hasattr(distributed.cli.utils, "install_signal_handlers"):
        distributed.cli.utils.install_signal_handlers = lambda loop=None, cleanup=None: None


def _change_core(core: Any) -> None:
    from distributed import Scheduler
    from distributed.core import Status

    cluster = core.YarnCluster

    def status(self: Any) -> Any:
        if self._stop_task is not None:
            return Status.closed
        return Status.running if self.scheduler_comm is not None else Status.created

    # What a client asks of a cluster.
    cluster.status = property(status)
    cluster.security = None
    cluster.name = property(lambda self: self.app_id)
    # A scheduler in this process (deploy_mode="local") finds its loop by itself.
    core.Scheduler = lambda loop=None, **options: Scheduler(**options)
    cluster._logs = _logs_of(core)
    _change_the_end(cluster)
    if not hasattr(core.AdaptiveCore, "stop"):
        _change_adaptive(core)
    _send_along(core)


def _logs_of(core: Any) -> Any:
    async def logs(self: Any, scheduler: bool = True, workers: Any = True) -> Any:
        found = core.Logs()
        if scheduler:
            found["Scheduler"] = core.Log("\n".join(line for _, line in await self.scheduler_comm.get_logs()))
        if workers:
            which = None if workers is True else list(workers)
            for name, lines in (await self.scheduler_comm.worker_logs(workers=which)).items():
                found[name] = core.Log("\n".join(line for _, line in lines))
        return found

    return logs


def _change_the_end(cluster: Any) -> None:
    stop, shutdown = cluster._stop_async, cluster.shutdown

    async def stop_async(self: Any, **options: Any) -> None:
        comm, self.scheduler_comm = self.scheduler_comm, None
        if comm is not None:
            await comm.close_rpc()  # a coroutine now
        await stop(self, **options)

    def shutdown_once(self: Any, status: str = "SUCCEEDED", diagnostics: str | None = None) -> Any:
        # After the first time there is no loop any more, and garbage collection closes too.
        if self._stop_task is not None and not self.asynchronous:
            return None
        return shutdown(self, status=status, diagnostics=diagnostics)

    cluster._stop_async = stop_async
    cluster.shutdown = shutdown_once


def _change_adaptive(core: Any) -> None:
    """The base class has lost its timer."""
    from tornado.ioloop import PeriodicCallback

    base = core.AdaptiveCore

    def initialize(
        self: Any,
        cluster: Any = None,
        interval: Any = "1s",
        minimum: int = 0,
        maximum: Any = float("inf"),
        wait_count: int = 3,
        target_duration: Any = "5s",
        **options: Any,
    ) -> None:
        self.cluster = cluster
        self.target_duration = core.parse_timedelta(target_duration)
        self._workers_to_close_kwargs = options
        base.__init__(self, minimum=minimum, maximum=maximum, wait_count=wait_count)
        self._timer = PeriodicCallback(self.adapt, core.parse_timedelta(interval) * 1000)
        cluster.loop.add_callback(self._timer.start)

    core.Adaptive.__init__ = initialize
    core.Adaptive.stop = lambda self: self.cluster.loop.add_callback(self._timer.stop)


def _send_along(core: Any) -> None:
    """Every container gets this file, as a ``sitecustomize.py`` on its PYTHONPATH."""
    original = core._files_and_build_script

    def files_and_build_script(environment: str) -> Any:
        files, build = original(environment)

        def build_script(command: str) -> str:
            return 'export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"\n' + str(build(command))

        return {**files, "sitecustomize.py": os.path.abspath(__file__)}, build_script

    core._files_and_build_script = files_and_build_script


def _change_cli(cli: Any) -> None:
    """``services scheduler``, what a scheduler's container runs.

    It listens on the node's address, or on that of the setting ``yarn.scheduler.host``, which dask-yarn did not have.
    """
    import asyncio
    import signal
    from urllib.parse import urlparse

    import dask
    from distributed import Scheduler

    def tell(scheduler: Any, app: Any) -> None:
        if "dashboard" in scheduler.services:  # before the address, which clients wait for
            host, port = urlparse(scheduler.address).hostname, scheduler.services["dashboard"].port
            app.kv["dask.dashboard"] = f"http://{host}:{port}".encode()
        app.kv["dask.scheduler"] = scheduler.address.encode()

    async def serve(app: Any) -> None:
        host = dask.config.get("yarn.scheduler.host", None)
        async with Scheduler(host=host, dashboard_address=f"{host or ''}:0") as scheduler:
            loop = asyncio.get_running_loop()
            ending = []
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, lambda: ending.append(asyncio.ensure_future(scheduler.close())))
            await loop.run_in_executor(None, tell, scheduler, app)
            await scheduler.finished()

    def run() -> None:
        asyncio.run(serve(cli.skein.ApplicationClient.from_current()))

    cli.scheduler.parser.set_defaults(func=run)


def _run_the_hidden_one() -> None:
    """As ``sitecustomize.py`` this file hides one that the environment may have."""
    here = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path) != here])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


def _install() -> None:
    """Into the environment of this Python: whatever runs in it may import dask-yarn."""
    folder = sysconfig.get_path("purelib")
    shutil.copyfile(__file__, os.path.join(folder, f"{INSTALLED}.py"))
    with open(os.path.join(folder, f"{INSTALLED}.pth"), "w") as file:
        file.write(f"import {INSTALLED}\n")
    print(f"dask-yarn is made to work in {folder}")


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: python yarn_compat.py install")
    _install()
elif __name__ in ("sitecustomize", INSTALLED):
    activate()
    if __name__ == "sitecustomize":
        _run_the_hidden_one()
