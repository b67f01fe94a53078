"""What an Airflow connection says of Kubernetes, or the environment where there is none, as an `Access`.

Reads what connections of the cncf.kubernetes provider hold without importing it, which costs seconds in every task.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_provider._compat import BaseHook, connection_exists
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.access import Access, environment_proxy, shared_key
from dask_provider.hooks.kubernetes.kubeconfig import Kubeconfig
from dask_provider.hooks.kubernetes.tokens import FileToken

#: where a pod finds its service account
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def load_access(conn_id: str | None) -> Access:
    """The access that an Airflow connection of type ``kubernetes`` describes. Blocks.

    Without a connection, or with one that says nothing: the service account of the pod that this is, else the
    kubeconfig of ``KUBECONFIG`` or ``~/.kube/config``.

    :raises InvalidInput: naming the field that cannot be used.
    """
    if conn_id is None:
        fields = _Fields("the environment", {})
    else:
        if not connection_exists(conn_id):
            raise InvalidInput("conn_id", conn_id, "an Airflow connection that exists")
        connection = BaseHook.get_connection(conn_id)
        if connection.conn_type not in ("kubernetes", "", None):
            raise InvalidInput(f"connection {conn_id}: conn_type", connection.conn_type, "kubernetes")
        fields = _Fields(f"connection {conn_id}", connection.extra_dejson)
    chosen = [name for name in ("kube_config_path", "kube_config") if fields.get(name)]
    chosen += ["in_cluster"] * fields.flag("in_cluster")
    if len(chosen) > 1:
        raise InvalidInput(f"{fields.where}: extra", chosen, "one of them")
    context = fields.text("cluster_context")
    if chosen == ["in_cluster"]:
        return _in_cluster(fields)
    if path := fields.text("kube_config_path"):
        found = [Path(path).expanduser()]
        return _of_kubeconfig(fields, Kubeconfig.of_files(f"{fields.where}: kube_config_path", found))
    if chosen:
        field_name = f"{fields.where}: kube_config"
        return _of_kubeconfig(fields, Kubeconfig.of_content(field_name, fields.get("kube_config")))
    if context is None and os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return _in_cluster(fields)
    listed = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [Path(name).expanduser() for name in listed.split(os.pathsep) if name]
    found = [path for path in paths if path.exists()]
    if not found:
        allowed = "a pod with a service account, a kubeconfig in KUBECONFIG or ~/.kube/config, or an Airflow connection"
        raise InvalidInput("conn_id", conn_id, f"{allowed} that has one; there is no {' or '.join(map(str, paths))}")
    return _of_kubeconfig(fields, Kubeconfig.of_files(":".join(map(str, found)), found))


@dataclass(frozen=True)
class _Fields:
    """The extra of a connection, under the names that the cncf provider gives its fields."""

    where: str
    extra: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """The plain name counts, even if empty, before that of Airflow older than 2.3."""
        return (self.extra[name] if name in self.extra else self.extra.get(f"extra__kubernetes__{name}")) or None

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{self.where}: {name}", value, "text")
        return value

    def flag(self, name: str) -> bool:
        value = self.get(name)
        known = {"none": False, "false": False, "0": False, "true": True, "1": True}
        if str(value).lower() not in known:
            raise InvalidInput(f"{self.where}: {name}", value, "true or false")
        return known[str(value).lower()]


def _of_kubeconfig(fields: _Fields, config: Kubeconfig) -> Access:
    return config.access(
        fields.text("cluster_context"),
        source=fields.where,
        namespace=fields.text("namespace"),
        insecure=fields.flag("disable_verify_ssl"),
        keepalive=not fields.flag("disable_tcp_keepalive"),
    )


def _in_cluster(fields: _Fields) -> Access:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, ca = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    missing = [str(path) for path in (token, ca) if not path.exists()] + ["KUBERNETES_SERVICE_HOST"] * (not host)
    if missing or not host:
        allowed = f"true only in a pod with a service account; here is no {' and no '.join(missing)}"
        raise InvalidInput(f"{fields.where}: in_cluster", True, allowed)
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    own = SERVICE_ACCOUNT / "namespace"
    insecure = fields.flag("disable_verify_ssl")
    return Access(
        server=server,
        source=f"{fields.where}, the service account of this pod",
        namespace=fields.text("namespace") or (own.read_text().strip() if own.exists() else None),
        ca_data=None if insecure else ca.read_bytes(),
        verify=not insecure,
        token=FileToken(token),
        proxy=environment_proxy(server),
        keepalive=not fields.flag("disable_tcp_keepalive"),
        key=shared_key(server, insecure, fields.flag("disable_tcp_keepalive")),
    ).checked(str(ca))
