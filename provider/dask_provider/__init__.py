"""Temporary Dask clusters for Airflow: created for a DAG run, used, results stored, gone again."""

__version__ = "0.1.0"
