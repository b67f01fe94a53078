"""What the `airflow.cfg` of such a server holds: small and quick instead of safe for production."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

PREFIX = "AIRFLOW__"

# How soon Airflow notices that a process is gone, for tests. Airflow's own values are minutes.
FAST_DETECTION: dict[str, str] = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
}

# Airflow 2.11 has these under other names; callers always write those of Airflow 3.
NAMES_ON_2: dict[tuple[str, str], tuple[str, str]] = {
    ("scheduler", "task_instance_heartbeat_timeout"): ("scheduler", "scheduler_zombie_task_threshold"),
    ("scheduler", "task_instance_heartbeat_timeout_detection_interval"): ("scheduler", "zombie_detection_interval"),
    ("workers", "min_heartbeat_interval"): ("scheduler", "local_task_job_heartbeat_sec"),
    ("dag_processor", "refresh_interval"): ("scheduler", "dag_dir_list_interval"),
    ("dag_processor", "min_file_process_interval"): ("scheduler", "min_file_process_interval"),
    ("dag_processor", "parsing_processes"): ("scheduler", "parsing_processes"),
    ("dag_processor", "print_stats_interval"): ("scheduler", "print_stats_interval"),
    ("api", "secret_key"): ("webserver", "secret_key"),
}

# Only Airflow 2.11 has these. A task that ends would schedule its successors itself, beside the scheduler: SQLite has
# no row locks, so now and then a task is scheduled twice and its first try is called 2.
ONLY_ON_2: dict[tuple[str, str], str] = {("scheduler", "schedule_after_task_execution"): "False"}

# WAL lets readers and the writer work at once; with it, NORMAL costs no fsync for each commit.
LOCAL_SETTINGS = '''\
"""SQLite as several processes need it."""

from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "connect")
def _configure(connection, _record):
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=60000")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
'''


def defaults(home: Path, dags_folder: Path, port: int, secrets: Mapping[str, str]) -> dict[tuple[str, str], str]:
    url = f"http://127.0.0.1:{port}"
    return {
        ("core", "dags_folder"): str(dags_folder),
        ("core", "plugins_folder"): str(home / "plugins"),
        ("core", "executor"): "LocalExecutor",
        ("core", "parallelism"): "8",
        ("core", "load_examples"): "False",
        ("core", "fernet_key"): secrets["fernet_key"],
        ("core", "execution_api_server_url"): f"{url}/execution/",
        ("core", "simple_auth_manager_all_admins"): "True",
        ("core", "hostname_callable"): "socket.gethostname",  # getfqdn asks DNS, which may be slow or absent
        ("core", "min_serialized_dag_update_interval"): "1",
        ("core", "min_serialized_dag_fetch_interval"): "1",
        ("database", "sql_alchemy_conn"): f"sqlite:///{home / 'airflow.db'}",
        ("database", "load_default_connections"): "False",
        ("logging", "base_log_folder"): str(home / "logs"),
        ("logging", "dag_processor_child_process_log_directory"): str(home / "logs" / "dag_processor"),
        ("logging", "colored_console_log"): "False",
        ("api", "host"): "127.0.0.1",
        ("api", "port"): str(port),
        ("api", "base_url"): url,
        ("api", "workers"): "1",
        ("api", "secret_key"): secrets["secret_key"],
        ("api_auth", "jwt_secret"): secrets["jwt_secret"],
        ("operators", "default_deferrable"): "True",
        ("scheduler", "scheduler_idle_sleep_time"): "0.5",
        ("scheduler", "enable_health_check"): "False",
        ("scheduler", "catchup_by_default"): "False",
        ("scheduler", "use_job_schedule"): "True",
        ("dag_processor", "refresh_interval"): "2",
        ("dag_processor", "bundle_refresh_check_interval"): "1",
        # A changed file is parsed at once in any case; this is for files that did not change.
        ("dag_processor", "min_file_process_interval"): "60",
        ("dag_processor", "parsing_processes"): "1",
        ("dag_processor", "print_stats_interval"): "300",
        ("usage_data_collection", "enabled"): "False",
    }


def options(
    major: int, home: Path, dags_folder: Path, port: int, secrets: Mapping[str, str], extra: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """All options, `extra` (`AIRFLOW__SECTION__KEY`) last, under the names that this Airflow knows."""
    merged = defaults(home, dags_folder, port, secrets) | (ONLY_ON_2 if major == 2 else {})
    for name, value in extra.items():
        section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
        if not name.startswith(PREFIX) or not separator or not key:
            raise ValueError(f"config: {name!r} is not of the form AIRFLOW__SECTION__KEY")
        merged[section, key] = value
    if major == 2:
        merged = {NAMES_ON_2.get(name, name): value for name, value in merged.items()}
        only_on_3 = ("api", "api_auth", "dag_processor", "workers")
        merged = {option: value for option, value in merged.items() if option[0] not in only_on_3}
    return merged


def as_cfg(merged: Mapping[tuple[str, str], str]) -> str:
    lines: list[str] = ["# Written at every start: changes made here are lost.\n"]
    for section in dict.fromkeys(section for section, _ in merged):
        lines.append(f"\n[{section}]\n")
        for (its_section, key), value in merged.items():
            if its_section == section:
                escaped = value.replace("%", "%%")
                lines.append(f"{key} = {escaped}\n")
    return "".join(lines)


def environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without anything that would change how Airflow, Python or Dask behave."""
    unwanted = ("AIRFLOW", "_AIRFLOW", "DASK_", "PYTHON", "VIRTUAL_ENV", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    local = "127.0.0.1,localhost"
    for name in ("no_proxy", "NO_PROXY"):
        kept[name] = f"{kept[name]},{local}" if kept.get(name) else local
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        # Airflow 2.11 refuses LocalExecutor on SQLite otherwise; Airflow 3 does not know it.
        "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
        **extra,
    }


def load_json(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
