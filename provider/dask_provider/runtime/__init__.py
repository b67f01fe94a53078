"""What runs beside the cluster: the job runtime and the keeper of a local cluster.

Standard library and ``distributed`` only, never Airflow. The package also travels to the cluster as one file
(``dask_provider.jobs.runtime_archive``), there under the name ``dask_job_runtime``: imports inside are relative.
"""
