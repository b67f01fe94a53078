"""Terraform's files as a copy, initialised, and a clear word about what could not be run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from tests.conftest import require
from tests.servers.terraform import NotHere, google_provider, terraform_program

GCP = Path(__file__).parents[2] / "terraform" / "gcp"
NOT_RUN: dict[str, str] = {}


def not_run(what: str, why: str) -> NoReturn:
    """Terraform's provider cannot be had on every machine, so its lack is no failure even with CI=true. It is said."""
    NOT_RUN[what] = why
    pytest.skip(f"NOT RUN: {what}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NOT_RUN:
        terminalreporter.section("NOT RUN: nobody has checked this here", sep="!", red=True, bold=True)
        for what, why in NOT_RUN.items():
            terminalreporter.write_line(f"{what}: {why}", red=True)


@dataclass(frozen=True)
class Terraform:
    """:param program: its path.
    :param env: variables that tell it where the provider is.
    :param folder: the copy of ``terraform/gcp``: Terraform writes beside what it reads.
    """

    program: str
    env: Mapping[str, str]
    folder: Path

    def run(self, environment: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.program, *arguments]
        # Values and folders of the user's own Terraform are no part of what is tested.
        own = ("TF_VAR_", "TF_CLI_ARGS", "TF_DATA_DIR", "TF_WORKSPACE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        env = {**inherited, **self.env, "TF_IN_AUTOMATION": "1"}
        folder = self.folder / "envs" / environment
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


def copied(folder: Path) -> Path:
    ignored = shutil.ignore_patterns(".terraform", ".terraform.lock.hcl", "*.tfstate*", "*.tfvars")
    return Path(shutil.copytree(GCP, folder / "gcp", ignore=ignored))


@pytest.fixture(scope="session")
def program() -> str:
    try:
        return terraform_program()
    except NotHere as error:
        not_run("terraform fmt", str(error))


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    what = "terraform validate and terraform test"
    folder = tmp_path_factory.mktemp("terraform")
    copy, probe = copied(folder), copied(folder / "probe") / "envs" / "dev"
    try:
        program = terraform_program()
        env, kind = google_provider(program, probe, folder / "terraform.rc")
    except NotHere as error:
        not_run(what, str(error))
    except RuntimeError as error:  # what it is made from is here, so it must work
        require(f"the stand-in for the Google provider ({error})", False)
        raise
    print(f"checked with {kind}")
    return Terraform(program, env, copy)


@pytest.fixture(scope="session")
def initialised(terraform: Terraform) -> Callable[[str], Terraform]:
    """``terraform init`` of an environment, once."""

    @cache
    def ready(environment: str) -> Terraform:
        done = terraform.run(environment, "init", "-backend=false", "-input=false", "-no-color")
        assert done.returncode == 0, done.stdout + done.stderr
        return terraform

    return ready
