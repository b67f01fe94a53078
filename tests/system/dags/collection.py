"""The repository's own DAGs, as a user of Airflow gets them (a file without that word is not even parsed)."""

from dags.dask_kubernetes_autoscale import dag as dask_kubernetes_autoscale
from dags.dask_kubernetes_ephemeral import dag as dask_kubernetes_ephemeral
from dags.dask_reaper import dag as dask_reaper
from dags.flights_daily import dag as flights_daily
from dags.optuna_hyperparameters import dag as optuna_hyperparameters
from dags.preprocess_files import dag as preprocess_files

__all__ = [
    "dask_kubernetes_autoscale",
    "dask_kubernetes_ephemeral",
    "dask_reaper",
    "flights_daily",
    "optuna_hyperparameters",
    "preprocess_files",
]
