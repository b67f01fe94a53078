"""A real Airflow under comparisons, whatever place its DAGs make clusters on."""
