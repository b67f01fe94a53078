"""Terraform, a Google provider for it, and checkov: found on this machine, or made once in the cache.

The real provider comes from wherever the machine's Terraform gets providers. Where it cannot be had, a stand-in that
knows only the provider's schema does for validate and test: the folder of its source, with a ``build.sh``, is named by
TERRAFORM_GOOGLE_SCHEMA, or lies at ``../shared/tools/terraform-google-schema`` beside the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.servers.gobuild import CACHE, go_program
from tests.servers.kubernetes.cached import key_of, locked, remove, run

CHECKOUT = Path(__file__).resolve().parents[2]
REQUIREMENTS = CHECKOUT / "requirements" / "checkov.txt"
PLUGINS = CACHE / "terraform-plugins"


class NotHere(Exception):
    """This machine does not have it and cannot make it."""


def terraform_program() -> str:
    """The machine's ``terraform``.

    :raises NotHere: there is none that runs.
    """
    program = shutil.which("terraform")
    if not program:
        raise NotHere("no terraform on PATH")
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{program} does not run: {done.stderr.strip()[-200:]}")
    return program


def google_provider(terraform: str, probe: Path, settings: Path) -> tuple[Mapping[str, str], str]:
    """Where Terraform gets ``hashicorp/google`` from, as environment variables, and what it is in words.

    :param probe: a folder with a configuration that needs the provider; it is initialised.
    :param settings: file that may be written for Terraform.
    :raises NotHere: neither the provider nor the stand-in's source is here.
    :raises RuntimeError: the stand-in's source is here, but cannot be built.
    """
    named = os.environ.get("TERRAFORM_GOOGLE_SCHEMA")
    source = Path(named) if named else CHECKOUT.parent / "shared" / "tools" / "terraform-google-schema"
    if named and not (source / "build.sh").is_file():
        raise RuntimeError(f"TERRAFORM_GOOGLE_SCHEMA={named} has no build.sh")
    if not named:
        why = _cannot_install(terraform, probe)
        if not why:
            return _own_plugins(), "the real provider"
        if not (source / "build.sh").is_file():
            raise NotHere(f"no Google provider can be installed ({why}), and TERRAFORM_GOOGLE_SCHEMA names no stand-in")
    mirror = _made(f"google-schema-{key_of(source)}", lambda place: _build(source, place))
    settings.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n')
    return {"TF_CLI_CONFIG_FILE": str(settings)}, "a stand-in that knows only the provider's schema"


def checkov_environment() -> Path:
    """The folder of checkov's Python environment.

    :raises RuntimeError: it cannot be installed.
    """
    key = key_of(REQUIREMENTS, text=f"{sys.base_prefix} {sys.version_info[0]}.{sys.version_info[1]}")
    return _made(f"checkov-{key}", _install_checkov)


def _own_plugins() -> dict[str, str]:
    PLUGINS.mkdir(parents=True, exist_ok=True)
    # There is no lock file to compare with, and the provider is large: fetched once.
    return {"TF_PLUGIN_CACHE_DIR": str(PLUGINS), "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "true"}


def _cannot_install(terraform: str, probe: Path) -> str:
    """Why Terraform gets no provider here, or nothing."""
    env = {**os.environ, **_own_plugins(), "TF_REGISTRY_DISCOVERY_RETRY": "0", "TF_REGISTRY_CLIENT_TIMEOUT": "5"}
    command = [terraform, "init", "-backend=false", "-input=false", "-no-color"]
    try:
        done = subprocess.run(command, cwd=probe, env=env, capture_output=True, text=True, timeout=240, check=False)
    except subprocess.TimeoutExpired:
        return "not within 240 s"
    return " ".join(done.stderr.partition("Error: ")[2].split())[:200] if done.returncode else ""


def _build(source: Path, place: Path) -> None:
    go, reason = go_program()
    if go is None:
        raise RuntimeError(reason)
    path = f"{Path(go).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    run(["sh", str(source / "build.sh"), str(place)], env={"PATH": path})


def _install_checkov(place: Path) -> None:
    run([sys.executable, "-m", "venv", "--without-pip", str(place)])
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "--quiet"]
    run([*pip, "--require-hashes", "-r", str(REQUIREMENTS)])


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made where it stays: a Python environment cannot be moved."""
    place, done = CACHE / name, CACHE / f"{name}.done"
    with locked(CACHE / f"{name}.lock"):  # parallel test processes: one makes it, the others wait
        if not (done.exists() and place.is_dir()):
            remove(place)
            make(place)
            done.touch()
    return place
