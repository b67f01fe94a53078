"""Run one plain job on Kubernetes, without a Dask cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from dask_provider.clusters.kubernetes_job import KubernetesJob
from dask_provider.clusters.kubernetes_shown import without_values
from dask_provider.errors import JobFailed
from dask_provider.handles import JobHandle
from dask_provider.hooks import hook_of
from dask_provider.joblog import failure_text
from dask_provider.operators.following import FollowingOperator
from dask_provider.outcomes import Outcome
from dask_provider.owner import Owner
from dask_provider.sideloop import run_aside

PLACE = "kubernetes"
FIELDS = tuple(f.name for f in dataclasses.fields(KubernetesJob))


class KubernetesJobOperator(FollowingOperator):
    """Runs a program in a container as a Job on Kubernetes, and follows it: its output is in the task log.

    Needs no Dask and no operator in the cluster. How it ended is Kubernetes' own word: exit code, OOMKilled, Evicted,
    DeadlineExceeded, an image that cannot be pulled, ... At most one job of a task runs at any time, whatever is
    killed: a retry after a failed job starts it anew, a retry after a lost worker goes on with the running one.
    Returns ``state``, ``job_id`` and ``exit_code``.

    :param image: image of the container; with ``spec_schema`` that of its container.
    :param cmd: command line, in place of the image's entry point; ``None``: as in the image. The variable
        ``DASK_JOB_ID`` is set, and ``$(DASK_JOB_ID)`` is replaced by Kubernetes.
    :param arguments: what follows it.
    :param env: environment of the program.
    :param name: the middle of the job's name, after that of the DAG; default: the task's id, or the name of its file.
    :param conn_id: Airflow connection of type ``kubernetes``; ``None``: the Kubernetes that Airflow runs in, or the
        current context of the kubeconfig file.
    :param namespace: where it runs; ``None``: that of the connection.
    :param job_resources: ``{"cpu": 1, "memory": "4 GiB"}``, or ``{"requests": {...}, "limits": {...}}``; default one
        CPU and 2 GiB.
    :param image_pull_policy: ``Always``, ``IfNotPresent`` or ``Never``; ``None``: as Kubernetes decides by the tag.
    :param image_pull_secrets: names of Secrets with registry passwords.
    :param service_account: for rights at a cloud; ``None``: the namespace's default, without a token for Kubernetes.
    :param env_from: Secrets and ConfigMaps whose entries become environment variables.
    :param volumes: volumes, as in a manifest of a pod.
    :param volume_mounts: where they are mounted.
    :param node_selector: labels of the nodes to run on.
    :param tolerations: taints of nodes that do not matter.
    :param labels: further labels of Job and pod.
    :param annotations: further annotations of Job and pod.
    :param spec_schema: the spec of the pod as in a manifest, for all else; the fields above are laid over it.
    :param active_deadline_seconds: seconds (or ``"2h"``) after which Kubernetes itself ends the job, also when all of
        Airflow is gone.
    :param keep_seconds: how long Kubernetes keeps an ended job, at least a minute. Whoever follows it must read within
        this time how it ended; a retry that comes later runs a job again that had succeeded when its worker was lost.
    """

    template_fields: Sequence[str] = FIELDS
    ui_color = "#e4ecf7"

    def __init__(
        self,
        *,
        image: str | None = None,
        cmd: Sequence[str] | None = None,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        conn_id: str | None = None,
        namespace: str | None = None,
        job_resources: Mapping[str, Any] | None = None,
        image_pull_policy: str | None = None,
        image_pull_secrets: Sequence[str] = (),
        service_account: str | None = None,
        env_from: Sequence[Mapping[str, Any]] = (),
        volumes: Sequence[Mapping[str, Any]] = (),
        volume_mounts: Sequence[Mapping[str, Any]] = (),
        node_selector: Mapping[str, str] | None = None,
        tolerations: Sequence[Mapping[str, Any]] = (),
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        spec_schema: Mapping[str, Any] | None = None,
        active_deadline_seconds: float | str | timedelta = 86400,
        keep_seconds: float | str | timedelta = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.cmd = cmd or ()
        self.arguments = arguments
        self.env = env or {}
        self.name = name
        self.conn_id = conn_id
        self.namespace = namespace
        self.job_resources = job_resources or {}
        self.image_pull_policy = image_pull_policy
        self.image_pull_secrets = image_pull_secrets
        self.service_account = service_account
        self.env_from = env_from
        self.volumes = volumes
        self.volume_mounts = volume_mounts
        self.node_selector = node_selector or {}
        self.tolerations = tolerations
        self.labels = labels or {}
        self.annotations = annotations or {}
        self.spec_schema = spec_schema or {}
        self.active_deadline_seconds = active_deadline_seconds
        self.keep_seconds = keep_seconds
        given = {field: getattr(self, field) for field in FIELDS}
        if not any(hasattr(value, "resolve") for value in given.values()):  # an XCom is known when the task runs
            KubernetesJob(**given)

    # --- the way ---

    def work(self) -> Any:
        spec, owner = self._spec(), self._owner()
        self._prepare_file()
        job = run_aside(_submit(spec, owner, self))
        self.stop_if_ended()
        said = "goes on, an earlier try started it" if job.adopted else "submitted"
        self.log.info("job %s %s (%s)", job.job_id, said, job.location)
        outcome, position = run_aside(self._follow(hook_of(PLACE), job))
        if outcome is None:
            from dask_provider.triggers.job import DaskJobTrigger

            trigger = DaskJobTrigger(job.to_dict(), None, False, position, self._key(), self._deadline)
            self._defer(trigger, "job_over", job=job.to_dict())
        return self._finish(job, outcome or Outcome("unknown"))

    def job_over(self, context: Any, job: dict[str, Any], event: dict[str, Any]) -> Any:
        """Back from following the job."""
        self._check_event(event)
        return self._finish(JobHandle.from_dict(job), Outcome.from_dict(event["outcome"]))

    def _finish(self, job: JobHandle, outcome: Outcome) -> Any:
        if not outcome.succeeded:
            raise JobFailed(failure_text(job.job_id, outcome))
        self.log.info("job %s succeeded", job.job_id)
        published = self._publish_file(job)
        return {"state": outcome.state, "job_id": job.job_id, "exit_code": outcome.exit_code, **published}

    async def _end(self, *, run_over: bool) -> None:
        from dask_provider.hooks.kubernetes import plain_jobs

        job = await plain_jobs.find(self._spec(), self._owner())
        if job is not None and self._is_ours(job):
            self.log.info("job %s: %s", job.job_id, await hook_of(PLACE).cancel(job))

    # --- what to run ---

    def _spec(self) -> KubernetesJob:
        # Kubernetes takes $(NAME) for a variable and $$ for a dollar sign.
        given = {field: getattr(self, field) for field in FIELDS}
        for field in ("cmd", "arguments", "env", "spec_schema"):
            given[field] = self._filled(given[field], lambda text: text.replace("$", "$$"))
        return KubernetesJob(**given)

    def _owner(self, task_id: str | None = None) -> Owner:
        owner = super()._owner(task_id)
        # The task stays part of the name's digest: two tasks may have one name.
        named = self.name and self.file is None  # a file's name tells more
        return dataclasses.replace(owner, task_id=f"{self.name}/{owner.task_id}") if named else owner

    def plan(self) -> dict[str, Any]:
        owner = self._owner()
        shown = {field: value for field in FIELDS if (value := getattr(self, field)) and field != "env"}
        return {"submit": without_values({"job_id": f"{owner.name}-1", **shown, "env": sorted(self.env)})}


async def _submit(spec: KubernetesJob, owner: Owner, step: FollowingOperator) -> JobHandle:
    from dask_provider.hooks.kubernetes import plain_jobs  # aiohttp comes with it

    return await plain_jobs.submit(spec, owner, step.attempt())
