"""Airflow 3 by its REST API. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from dev.airflow_server.client import AirflowClient, AirflowError, TaskInstance, TaskSelection

PAGE = 100


class Airflow3Client(AirflowClient):
    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home)
        self.url = url
        self._token: str | None = None
        # Never by a proxy: the server is on this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def close(self) -> None:
        """Nothing is kept open."""

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One request below /api/v2; the answer's JSON. For whatever has no method here."""
        if self._token is None:
            self._token = self._request("GET", f"{self.url}/auth/token", None)["access_token"]
        address = f"{self.url}/api/v2{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        return self._request(method, address, body)

    def _request(self, method: str, address: str, body: Any) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data=data, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=30) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            raise AirflowError(f"{method} {address}: {error.code} {error.read().decode(errors='replace')}") from None
        except OSError as error:
            raise AirflowError(f"{method} {address}: {error}") from None
        return json.loads(content) if content else None

    def _all(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self.call("GET", path, **query, limit=PAGE, offset=offset)
            yield from page[key]
            offset += PAGE
            if offset >= page["total_entries"]:
                return

    def healthy(self) -> dict[str, str | None]:
        """Component -> health as the API server sees it; raises AirflowError while it does not answer."""
        seen = self._request("GET", f"{self.url}/api/v2/monitor/health", None)
        return {name: (part or {}).get("status") for name, part in seen.items()}

    def dags(self) -> list[str]:
        return [dag["dag_id"] for dag in self._all("/dags", "dags") if not dag.get("is_stale")]

    def import_errors(self) -> dict[str, str]:
        return {error["filename"]: error["stack_trace"] for error in self._all("/importErrors", "import_errors")}

    def pause(self, dag_id: str, paused: bool = True) -> None:
        self.call("PATCH", f"/dags/{quote(dag_id)}", {"is_paused": paused}, update_mask="is_paused")

    def create_run(self, dag_id: str, run_id: str | None, conf: dict[str, Any], logical_date: str | None) -> str:
        body: dict[str, Any] = {"logical_date": logical_date, "conf": conf}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self.call("POST", f"/dags/{quote(dag_id)}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", _run(dag_id, run_id))["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        found = self._all(f"{_run(dag_id, run_id)}/taskInstances", "task_instances", order_by="id")
        return [TaskInstance.of({**fields, "trigger_id": (fields.get("trigger") or {}).get("id")}) for fields in found]

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}"
        if map_index >= 0:
            path += f"/{map_index}"
        self.call("PATCH", path, {"new_state": state}, update_mask="new_state")

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        self.call("PATCH", _run(dag_id, run_id), {"state": state}, update_mask="state")

    def clear(
        self,
        dag_id: str,
        run_id: str,
        tasks: TaskSelection | None = None,
        *,
        only_failed: bool = False,
        only_running: bool = False,
        upstream: bool = False,
        downstream: bool = False,
    ) -> list[str]:
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": None if tasks is None else [task if isinstance(task, str) else list(task) for task in tasks],
            "only_failed": only_failed,
            "only_running": only_running,
            "include_upstream": upstream,
            "include_downstream": downstream,
        }
        cleared = self.call("POST", f"/dags/{quote(dag_id)}/clearTaskInstances", body)
        return sorted({instance["task_id"] for instance in cleared["task_instances"]})

    def xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries"
        keys = [entry["key"] for entry in self._all(path, "xcom_entries", map_index=map_index)]
        return {
            key: self.call("GET", f"{path}/{quote(key)}", map_index=map_index, deserialize="false")["value"]
            for key in keys
        }

    def shown_log(self, dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int = -1) -> list[str]:
        """The messages of one try as the UI shows them: all files merged by Airflow."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        content = self.call("GET", path, map_index=map_index, full_content="true")["content"]
        return [line if isinstance(line, str) else str(line.get("event", "")) for line in content]


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"
