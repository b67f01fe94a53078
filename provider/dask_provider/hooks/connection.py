"""The Airflow connection type ``dask``: a scheduler that somebody else runs."""

from __future__ import annotations

from typing import Any

from dask_provider._compat import BaseHook, connection_exists
from dask_provider.errors import InvalidInput

TLS_FIELDS = ("tls_ca_file", "tls_cert_file", "tls_key_file")


class DaskConnectionHook(BaseHook):
    """Reads connections of type ``dask``: host, port and, in the extra, TLS files and ``dashboard_url``."""

    conn_name_attr = "dask_conn_id"
    default_conn_name = "dask_default"
    conn_type = "dask"
    hook_name = "Dask"

    def __init__(self, dask_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.dask_conn_id = dask_conn_id

    def get_conn(self) -> dict[str, Any]:
        """``address``, ``dashboard_url`` and ``tls`` (paths, or ``None``) of the scheduler.

        :raises InvalidInput: for a connection that does not exist or lacks the host, or has some TLS files only.
        """
        if not connection_exists(self.dask_conn_id):
            raise InvalidInput("conn_id", self.dask_conn_id, "an Airflow connection that exists")
        connection = self.get_connection(self.dask_conn_id)
        if not connection.host:
            raise InvalidInput(f"connection {self.dask_conn_id}: host", connection.host, "the scheduler's host name")
        extra = connection.extra_dejson
        tls = {name.removeprefix("tls_"): extra[name] for name in TLS_FIELDS if extra.get(name)}
        if tls and len(tls) < len(TLS_FIELDS):
            raise InvalidInput(f"connection {self.dask_conn_id}: extra", sorted(tls), f"all or none of {TLS_FIELDS}")
        scheme = "tls" if tls else "tcp"
        return {
            "address": f"{scheme}://{connection.host}:{connection.port or 8786}",
            "dashboard_url": extra.get("dashboard_url"),
            "tls": tls or None,
        }

    def test_connection(self) -> tuple[bool, str]:
        """Whether the scheduler's port can be reached; for the button in the UI."""
        import socket

        try:
            found = self.get_conn()
            host, _, port = found["address"].partition("://")[2].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5):
                return True, f"{found['address']} answers"
        except (OSError, ValueError) as error:
            return False, str(error)
