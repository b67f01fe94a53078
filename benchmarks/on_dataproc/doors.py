"""Leads the google provider to the emulator: it knows no other Dataproc than Google's.

Imported from ``sitecustomize`` by all processes of the Airflow that is measured; it costs nothing until the provider's
hook is imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

HOOKS = "airflow.providers.google.cloud.hooks.dataproc"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != HOOKS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _lead(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _lead(module: Any) -> None:
    import grpc

    address = os.environ["BENCHMARK_GRPC"]
    v1 = importlib.import_module("google.cloud.dataproc_v1")
    services = f"{v1.__name__}.services"
    for service, method in (("cluster_controller", "get_cluster_client"), ("job_controller", "get_job_client")):
        transports = importlib.import_module(f"{services}.{service}.transports")
        name = "".join(word.capitalize() for word in service.split("_"))

        def blocking(self: Any, region: str | None = None, name: str = name, transports: Any = transports) -> Any:
            transport = getattr(transports, f"{name}GrpcTransport")(channel=grpc.insecure_channel(address))
            return getattr(v1, f"{name}Client")(transport=transport)

        async def waiting(self: Any, region: str | None = None, name: str = name, transports: Any = transports) -> Any:
            transport = getattr(transports, f"{name}GrpcAsyncIOTransport")(channel=grpc.aio.insecure_channel(address))
            return getattr(v1, f"{name}AsyncClient")(transport=transport)

        setattr(module.DataprocHook, method, blocking)
        setattr(module.DataprocAsyncHook, method, waiting)


sys.meta_path.insert(0, _Finder())
