"""The Dask operator as its users have it: installed by Helm, with its own account, in a pod."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require
from tests.integration.kubernetes.place import Namespace
from tests.servers.gobuild import built
from tests.servers.kubernetes import make_dask_image

HELM = "3.19.2"
IMAGE, TAG = "localhost/dask-operator", "tests"
REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements" / "operator.txt"
#: as the image of the operator has it
ENTRY_POINT = ("kopf", "run", "-m", "dask_kubernetes.operator.controller")


@pytest.mark.whole
@pytest.mark.timeout(1800)  # the first time, Helm is built
async def test_operator_installed_by_helm(place: Namespace) -> None:
    """deploy/kubernetes/README.md, 1., with the chart of the operator's wheel and an image of that wheel."""
    helm, reason = built("helm", "helm.sh/helm/v3/cmd/helm", HELM)
    require(f"helm {HELM} ({reason})", helm is not None)
    server = place.server
    server.import_image(make_dask_image(f"{IMAGE}:{TAG}", REQUIREMENTS, entry_point=ENTRY_POINT))
    namespace = f"{place.name}-operator"
    env = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}

    def run_helm(*words: str) -> None:
        done = subprocess.run(
            [str(helm), *words, "-n", namespace], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    server.control("kill", "operator")
    try:
        values = ("--set", f"image.name={IMAGE},image.tag={TAG}")
        run_helm("install", "dask-operator", str(server.prepared.chart), "--create-namespace", "--wait", *values)
        handle = await place.ready(place.spec(workers=1))
        told = await place.run(handle, "print(6 * 7)")
        assert (told.outcome.succeeded, "42" in told.lines) == (True, True)
        await place.delete(handle)
    finally:
        run_helm("uninstall", "dask-operator", "--wait", "--ignore-not-found")
        server.kubectl("delete", "namespace", namespace, "--ignore-not-found")
        server.control("start", "operator")
