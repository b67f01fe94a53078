"""Real servers and processes, each in a folder of its own; no Airflow server."""
