"""The ``[dask]`` section of Airflow's configuration, each option read in one place."""

from __future__ import annotations

import os

from dask_provider._compat import conf
from dask_provider.errors import InvalidInput

#: used when ``[dask] instance`` is not set; the reaper refuses to delete under it
DEFAULT_INSTANCE = "default"


def instance() -> str:
    """Name of this Airflow among those that share a place; must be equal on workers and triggerers."""
    name: str = conf.get("dask", "instance", fallback=DEFAULT_INSTANCE).strip()
    if not name:
        raise InvalidInput("[dask] instance", name, "a name that is not empty")
    return name


def state_dir() -> str:
    """Folder of the records of clusters and jobs on this host (places ``local`` and ``existing``)."""
    default = os.path.join(os.environ.get("AIRFLOW_HOME") or os.path.expanduser("~/airflow"), "dask")
    return os.path.abspath(os.path.expanduser(conf.get("dask", "state_dir", fallback="") or default))


def staging() -> str:
    """URI prefix under which jobs leave their results until they are stored, ends with ``/``."""
    prefix = conf.get("dask", "staging", fallback="") or "file://" + os.path.join(state_dir(), "staging")
    return str(prefix).rstrip("/") + "/"


def staging_is_default() -> bool:
    """Whether results lie on this host, where nothing that runs elsewhere can leave any."""
    return not conf.get("dask", "staging", fallback="")


def keep_days() -> float:
    """How long records, logs and staged results of ended clusters and jobs stay in :func:`state_dir`."""
    return float(conf.getfloat("dask", "keep_days", fallback=14.0))


def sync_seconds() -> float:
    """How long a deferrable operator waits by itself before it defers."""
    return float(conf.getfloat("dask", "sync_seconds", fallback=10.0))


def dataproc_prices() -> str:
    """Path or URI of the user's own table of prices; empty: the one that comes with the provider."""
    return str(conf.get("dask", "dataproc_prices", fallback="")).strip()


def default_deferrable(place: str) -> bool:
    """Whether waits defer unless the DAG says so.

    On ``local`` and ``existing`` worker and triggerer must share a host, which only the LocalExecutor promises.
    """
    deferrable = bool(conf.getboolean("operators", "default_deferrable", fallback=False))
    if place in ("local", "existing"):
        return deferrable and "LocalExecutor" in conf.get("core", "executor", fallback="")
    return deferrable
