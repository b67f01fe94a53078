"""`python -m dev.demo --days 31`: see dev/demo/__init__.py. `--up` only starts its Airflow and leaves it running."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dev import flights_data
from dev.airflow_server import AirflowError, AirflowServer
from dev.airflow_server.server import noted_url, running_keeper
from dev.demo import summary
from dev.demo.place import CHECKOUT, DAG_ID, Place
from dev.demo.watch import Watch


class Demo:
    def __init__(self, place: Place, days: int) -> None:
        self.place = place
        self.days = days
        self.steps: list[tuple[str, float]] = []

    def run(self) -> int:
        if running_keeper(self.place.home) is not None:
            print("An Airflow of `make up` runs in this checkout: `make down` first.", file=sys.stderr)
            return 1
        self._step("input", self._input)
        server = self.place.server()
        server.abandon_runs()
        try:
            self._step("Airflow started", server.start)
            print(f"Airflow {server.version}: scheduler, dag processor, triggerer, API server at {server.url}")
            return self._watch(server)
        finally:
            server.stop()

    def _watch(self, server: AirflowServer) -> int:
        client = server.client
        began = time.monotonic()
        run_id = client.trigger(DAG_ID, {"days": self.days})
        print(f"DAG {DAG_ID}, run {run_id}, {self.days} days\n")
        state = Watch(client, DAG_ID, run_id).until_finished()
        self.steps.append(("DAG run", time.monotonic() - began))
        instances = client.task_instances(DAG_ID, run_id)
        print(f"\nThe run ended: {state}\n")
        if state == "success":
            self._show_result()
        self._show_clusters(summary.clusters(client, DAG_ID, run_id, instances))
        print("\nTime:")
        print("\n".join(summary.duration_lines(self.steps, instances)))
        return 0 if state == "success" else 1

    def _show_result(self) -> None:
        latest = summary.point_latest(self.place.results)
        if latest is None:
            print(f"No result is stored below {self.place.results}")
            return
        print("\n".join(summary.result_lines(latest)))
        print(f"\nStored in {latest}/ = {latest.resolve()}/")

    def _show_clusters(self, handles: list[dict[str, object]]) -> None:
        left = summary.left_behind(self.place.state)
        for handle in handles:
            here = [process for process in left if str(handle["name"]) in process.command]
            print(f"Cluster {handle['name']}: " + (f"STILL THERE, {len(here)} processes" if here else "gone"))
        for process in left:
            print(f"  left behind: {process.pid} {process.command}")

    def _input(self) -> None:
        flights_data.unpack(self.place.input)

    def _step(self, name: str, function: Callable[[], None]) -> None:
        began = time.monotonic()
        function()
        self.steps.append((name, time.monotonic() - began))


def up(place: Place) -> int:
    if running_keeper(place.home) is None:
        flights_data.unpack(place.input)
        server = place.server()
        server.abandon_runs()
        server.start()
        server.detach()
    print(f"Airflow runs: {noted_url(place.home)}  (no password; `make down` ends it)")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    parser.add_argument("--days", type=int, default=31, help="days of 2013 from 1 January on")
    parser.add_argument("--up", action="store_true", help="start Airflow and leave it running")
    parser.add_argument("--folder", type=Path, default=CHECKOUT / ".demo", help="where everything is kept")
    parser.add_argument("--dags", type=Path, default=CHECKOUT / "dags")
    arguments = parser.parse_args()
    if not 1 <= arguments.days <= 365:
        parser.error(f"--days: {arguments.days} is not between 1 and 365")
    place = Place(arguments.folder, arguments.dags)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also then nothing may stay behind
    try:
        return up(place) if arguments.up else Demo(place, arguments.days).run()
    except AirflowError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        left = summary.left_behind(place.state)
        print(f"\ninterrupted, {len(left) or 'no'} processes left", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
