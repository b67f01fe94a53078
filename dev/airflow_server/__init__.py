"""A real Airflow (2.11 or 3.x) in a folder of its own: for the demo, `make up`, the tests and the benchmarks.

with AirflowServer(home, python, dags_folder) as server:
    run_id = server.client.trigger("my_dag", conf={"days": 3})
    state = server.client.wait_for_run("my_dag", run_id)
"""

from dev.airflow_server.client import AirflowClient, AirflowError, TaskInstance
from dev.airflow_server.server import AirflowServer, TaskProcesses
from dev.airflow_server.settings import FAST_DETECTION

__all__ = ["FAST_DETECTION", "AirflowClient", "AirflowError", "AirflowServer", "TaskInstance", "TaskProcesses"]
