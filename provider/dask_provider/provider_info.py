"""What Airflow asks a provider about itself. Imports nothing: Airflow reads it at every start."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's entry point (schema: Airflow's ``provider_info.schema.json``)."""
    from dask_provider import __version__

    return {
        "package-name": "airflow-provider-dask",
        "name": "Dask",
        "description": "Temporary Dask clusters: created for a DAG run, used, results stored, gone again.",
        "versions": [__version__],
        "task-decorators": [{"name": "dask", "class-name": "dask_provider.decorators.dask_task"}],
        "extra-links": [
            "dask_provider.links.DaskDashboardLink",
            "dask_provider.links.DaskResultsLink",
            "dask_provider.links.DaskReportLink",
        ],
        "connection-types": [
            {
                "connection-type": "dask",
                "hook-class-name": "dask_provider.hooks.connection.DaskConnectionHook",
                "conn-fields": {
                    "tls_ca_file": _text("CA file", "Path of the CA certificate (PEM); with it the address is tls://"),
                    "tls_cert_file": _text("Certificate file", "Path of the client's certificate (PEM)"),
                    "tls_key_file": _text("Key file", "Path of the client's private key (PEM)"),
                    "dashboard_url": _text("Dashboard URL", "Where users see the dashboard"),
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "password", "schema"],
                    "relabeling": {"host": "Scheduler host", "port": "Scheduler port"},
                    "placeholders": {"host": "dask-scheduler.example.org", "port": "8786"},
                },
            }
        ],
        "config": {
            "dask": {
                "description": "Temporary Dask clusters (airflow-provider-dask).",
                "options": {
                    "instance": _option(
                        "Name of this Airflow among those that share a place. Clusters are adopted, listed and reaped "
                        "only within one instance. Must be equal on workers and triggerers.",
                        "default",
                    ),
                    "state_dir": _option(
                        "Folder of the records of clusters and jobs on this host. Empty: $AIRFLOW_HOME/dask.", ""
                    ),
                    "staging": _option(
                        "URI prefix under which jobs leave their results until they are stored. "
                        "Empty: the folder staging in state_dir.",
                        "",
                    ),
                    "keep_days": _option(
                        "For how many days records, logs and staged results of ended clusters and jobs are kept in "
                        "state_dir.",
                        "14",
                        "float",
                    ),
                    "sync_seconds": _option(
                        "How many seconds a deferrable operator waits by itself before it defers.", "10", "float"
                    ),
                    "dataproc_prices": _option(
                        "Path or URI of a table of prices (JSON) by which costs on Dataproc are estimated. "
                        "Empty: the table that comes with the provider.",
                        "",
                    ),
                },
            }
        },
    }


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], "default": None}}


def _option(description: str, default: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "version_added": "0.1.0", "type": kind, "example": None, "default": default}
