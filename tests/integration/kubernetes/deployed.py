"""A namespace as deploy/kubernetes makes it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.servers.kubernetes import KubernetesServer
from tests.servers.kubernetes.certificates import write_kubeconfig

_LEVEL = "pod-security.kubernetes.io~1enforce"
BASE = Path(__file__).resolve().parents[3] / "deploy" / "kubernetes"
#: for tests whose pods share a folder with this machine
HOST_PATHS = {
    "target": {"kind": "Namespace"},
    "patch": json.dumps([{"op": "remove", "path": f"/metadata/labels/{_LEVEL}"}]),
}


def deploy(
    server: KubernetesServer, namespace: str, folder: Path, patches: Sequence[dict[str, Any]] = ()
) -> dict[str, Path]:
    """``kubectl apply -k`` of an overlay of deploy/kubernetes.

    :param folder: where the overlay is written.
    :returns: kubeconfigs with tokens of its service accounts, by their names.
    """
    overlay = {"namespace": namespace, "resources": [os.path.relpath(BASE, folder)], "patches": list(patches)}
    (folder / "kustomization.yaml").write_text(json.dumps(overlay))
    server.kubectl("apply", "-k", str(folder))
    kubeconfigs = {}
    for account in ("airflow", "dask-jobs"):
        token = server.kubectl("create", "token", account, "-n", namespace).strip()
        kubeconfigs[account] = folder / f"{account}.kubeconfig"
        write_kubeconfig(kubeconfigs[account], server.url, server.ca, {"token": token}, namespace)
    return kubeconfigs
