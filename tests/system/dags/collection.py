"""The repository's own DAGs, as a user of Airflow gets them (a file without that word is not even parsed)."""

from dags.dask_reaper import dag as dask_reaper
from dags.flights_daily import dag as flights_daily

__all__ = ["dask_reaper", "flights_daily"]
