"""`python -m dev.airflow_server up|down|status --home …`: an Airflow that keeps running, with its UI."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dev.airflow_server.client import AirflowError
from dev.airflow_server.rest import Airflow3Client
from dev.airflow_server.server import AirflowServer, noted_url, running_keeper, stop_detached


def up(arguments: argparse.Namespace) -> int:
    home: Path = arguments.home
    if running_keeper(home) is not None:
        print(f"runs already: {noted_url(home)}")
        return 0
    env = dict(_pair(text) for text in arguments.env)
    server = AirflowServer(home, arguments.python, arguments.dags, dict(_pair(text) for text in arguments.config), env)
    try:
        server.start()
        if server.major == 2:
            server.start_component("webserver")
    except KeyboardInterrupt:
        server.stop()
        return 130
    server.detach()
    print(f"Airflow {server.version} runs: {server.url}")
    return 0


def down(arguments: argparse.Namespace) -> int:
    print("stopped" if stop_detached(arguments.home) else "nothing was running")
    return 0


def status(arguments: argparse.Namespace) -> int:
    if running_keeper(arguments.home) is None:
        print("does not run")
        return 1
    url = noted_url(arguments.home)
    print(f"runs: {url}")
    try:
        for component, health in Airflow3Client(arguments.home, url).healthy().items():
            if health is not None:
                print(f"  {component}: {health}")
    except AirflowError as error:
        print(f"  the API server does not answer: {error}")
        return 1
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise SystemExit(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.airflow_server", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for function in (up, down, status):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("--home", type=Path, default=Path(".demo/airflow"))
        if function is up:
            command.add_argument("--python", type=Path, default=Path(sys.executable), help="a Python that has Airflow")
            command.add_argument("--dags", type=Path, default=Path("dags"), help="the DAG folder")
            command.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the tasks")
            command.add_argument("--config", action="append", default=[], metavar="AIRFLOW__SECTION__KEY=VALUE")
    arguments = parser.parse_args()
    arguments.home = arguments.home.absolute()
    try:
        return int(arguments.function(arguments))
    except AirflowError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
