"""``airflow-dask jobs push``: job scripts, to where DAGs name them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

#: for who has not said where the DAGs of the environment are; the prefix has no slash at its end
ANY_DAGS = 'gcloud storage cp dags/*.py "$(terraform output -raw composer_dag_gcs_prefix)/"'


def add(subparsers: Any) -> None:
    """Add the command to those of ``airflow-dask``."""
    parser = subparsers.add_parser("jobs", help="bring job scripts to where DAGs read them")
    actions = parser.add_subparsers(metavar="action", required=True)
    push = actions.add_parser(
        "push",
        help="write the files that are not there yet, or are others there",
        description="Write the files of a folder below a prefix, as far as they are not there yet or are others there "
        "(by SHA-256). What is there alone stays. Exit code 0: all is there; 1: a file could not be written; 2: wrong "
        "input, such as a destination that may not be written to.",
    )
    push.add_argument("source", help="folder with job scripts, or one file")
    push.add_argument("destination", help="prefix: gs://BUCKET/jobs/, s3://[connection@]BUCKET/jobs/, a path, ...")
    push.add_argument("--dry-run", action="store_true", help="only say what would be written")
    push.add_argument("--dags", metavar="PREFIX", help="gs://BUCKET/dags of Composer: say how DAGs get there")
    push.set_defaults(run=run_push)


def run_push(given: argparse.Namespace) -> int:
    """:returns: 0 when all is there as it is here, or would be."""
    from dask_provider.publish.pushing import UNCHANGED, PushedFile, dags_command, plan_push, push
    from dask_provider.units import human_bytes

    hint = dags_command(given.dags) if given.dags else None
    plan = plan_push(given.source, given.destination)
    if hint is None and plan.destination.uri.startswith("gs://"):
        hint = ANY_DAGS
    for file in plan.files:
        if given.dry_run or file.state == UNCHANGED:
            print(f"{file.state:<9}  {file.path}  {human_bytes(file.bytes)}")
    written: list[PushedFile] = []
    failed: list[PushedFile] = []
    if not given.dry_run:
        for file, error in push(plan):
            (written if error is None else failed).append(file)
            if error is None:
                print(f"{file.state:<9}  {file.path}  {human_bytes(file.bytes)}", flush=True)
            else:
                print(f"airflow-dask: {file.path}: {type(error).__name__}: {error}", file=sys.stderr)
    todo = plan.to_write if given.dry_run else written
    size = human_bytes(sum(file.bytes for file in todo))
    same = len(plan.files) - len(plan.to_write)
    did = "would be written" if given.dry_run else "written"
    print(f"{len(todo)} {did} ({size}), {same} unchanged, {len(failed)} failed: {plan.destination.uri}")
    if plan.others:
        print(f"only there, and left alone: {', '.join(plan.others)}")
    if hint is not None:
        print(f"DAGs: {hint}")
    return 1 if failed else 0
