"""`make demo`: the DAG `flights_daily` under a real Airflow, watched until its cluster is gone."""
