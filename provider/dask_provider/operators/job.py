"""Run one job beside a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_provider import config
from dask_provider._compat import AirflowFailException
from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import ClusterFailed, ClusterGone, InvalidInput, JobFailed
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import GONE_WITHIN, TAKEN_OVER, ClusterHook
from dask_provider.joblog import failure_text
from dask_provider.jobs import Bundle, Job, make_bundle, staged
from dask_provider.links import DaskDashboardLink, DaskReportLink, DaskResultsLink
from dask_provider.operators.ahead import check_ahead, known_ahead
from dask_provider.operators.cluster import cost_of, dashboard, plan_of, remove, start_cluster, tell
from dask_provider.operators.following import FollowingOperator
from dask_provider.operators.sources import pickle_call, read_files, read_script
from dask_provider.outcomes import Outcome
from dask_provider.sideloop import run_aside
from dask_provider.units import is_template

#: seconds beyond ``retry_delay`` for which a cluster is kept for the next try
RETRY_MARGIN = 120.0


class DaskJobOperator(FollowingOperator):
    """Runs a script, module or function beside a cluster, and follows it: output and progress are in the task log.

    Returns ``state``, ``job_id``, ``results`` and ``manifest`` (URIs), ``files``, ``bytes``, ``rows`` and, for a
    function, its ``result``. At most one job of a task runs at any time, whatever is killed: a retry after a failed job
    starts it anew on the same cluster, a retry after a lost worker goes on with the running one.

    :param cluster: handle (``create.output``, or what the ``with dask_cluster(...)`` block gives), or a spec: then this
        one task creates the cluster, runs the job and deletes the cluster.
    :param script: Python file: local path, ``s3://``, ``gs://`` or any URI that Airflow's connections open; or
    :param module: module to run as ``python -m``; or
    :param python_callable: function to run, with ``op_args`` and ``op_kwargs``; what it returns must be JSON.
    :param arguments: command line of script or module.
    :param files: extra files (paths or URIs) for the program's working directory.
    :param py_files: ``.py``, ``.zip`` or ``.egg`` files, importable by the program and all workers.
    :param env: environment of the program.
    :param conn_id: Airflow connection with which script and files are read, when the URI names none.
    :param skip_if_stored: destination of a store step: a complete result there is returned and nothing runs.
    :param performance_report: keep Dask's performance report (where bokeh is installed).
    """

    template_fields: Sequence[str] = (
        "cluster",
        "script",
        "module",
        "arguments",
        "files",
        "py_files",
        "env",
        "op_args",
        "op_kwargs",
        "skip_if_stored",
    )
    operator_extra_links = (DaskDashboardLink(), DaskResultsLink(), DaskReportLink())
    ui_color = "#fdf3e1"

    def __init__(
        self,
        *,
        cluster: Any,
        script: str | None = None,
        module: str | None = None,
        python_callable: Callable[..., Any] | None = None,
        op_args: Sequence[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        arguments: Sequence[str] = (),
        files: Sequence[str] = (),
        py_files: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        conn_id: str | None = None,
        skip_if_stored: str | None = None,
        performance_report: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given = [n for n, v in (("script", script), ("module", module), ("python_callable", python_callable)) if v]
        if len(given) != 1:
            raise InvalidInput("script, module, python_callable", given or None, "exactly one of the three")
        # What has "resolve" will be a handle when the task runs: an XCom, or the argument of a mapped group.
        may_be = isinstance(cluster, ClusterSpec | ClusterHandle | Mapping) or is_template(cluster)
        if isinstance(cluster, type) or not (may_be or hasattr(cluster, "resolve")):
            allowed = "a spec, or the handle of a create step (what a block gives: with dask_cluster(...) as cluster)"
            raise InvalidInput("cluster", cluster, allowed)
        self.cluster = cluster
        self.script, self.module, self.python_callable = script, module, python_callable
        self.op_args = op_args
        self.op_kwargs = op_kwargs or {}
        self.arguments = arguments
        self.files = files
        self.py_files = py_files
        self.env = env or {}
        self.conn_id = conn_id
        self.skip_if_stored = skip_if_stored
        self.performance_report = performance_report

    # --- the way ---

    def work(self) -> Any:
        if (stored := self._stored()) is not None:
            return stored
        spec = self._spec()
        bundle = self._bundle()
        if spec is None:
            return self._run(ClusterHandle.from_dict(self.cluster), bundle)
        check_ahead(self, self._context)
        ready, handle = run_aside(start_cluster(self, spec, self._owner(), bundle))
        if ready is None:
            from dask_provider.triggers.cluster import DaskClusterTrigger

            trigger = DaskClusterTrigger(handle.to_dict(), self._key(), self._deadline)
            self._defer(trigger, "cluster_ready", cluster=handle.to_dict())
        return self._run(ready or handle, bundle)

    def cluster_ready(self, context: Any, cluster: dict[str, Any], event: dict[str, Any]) -> Any:
        """Back from waiting for the cluster of this task alone."""
        self._check_event(event)
        if "failed" in event:
            handle = ClusterHandle.from_dict(cluster)
            run_aside(remove(hook_of(handle.place), handle, "it did not become ready", self.log))
            raise ClusterFailed(event["failed"])
        return self._run(ClusterHandle.from_dict(event["cluster"]), self._bundle())

    def job_over(self, context: Any, job: dict[str, Any], cluster: dict[str, Any], event: dict[str, Any]) -> Any:
        """Back from following the job."""
        self._check_event(event)
        outcome = Outcome.from_dict(event["outcome"])
        return self._finish(JobHandle.from_dict(job), ClusterHandle.from_dict(cluster), outcome)

    def _run(self, handle: ClusterHandle, bundle: Bundle) -> Any:
        hook, own = hook_of(handle.place), self._spec() is not None
        DaskDashboardLink.push(self._ti, handle.dashboard_url)
        self._prepare_file()
        try:
            job = run_aside(hook.submit(handle, bundle, self.attempt()))
        except ClusterGone as gone:
            if own:
                raise
            # Another try would find the same: the cluster belongs to the block, not to this task.
            raise AirflowFailException(str(gone)) from gone
        self.stop_if_ended()
        self.log.info(
            "job %s %s%s",
            job.job_id,
            "goes on, an earlier try started it" if job.adopted else "submitted",
            dashboard(handle),
        )
        DaskResultsLink.push(self._ti, job.results)
        outcome, position = run_aside(self._follow(hook, job))
        if outcome is None:
            from dask_provider.triggers.job import DaskJobTrigger

            records: dict[str, Any] = {"job": job.to_dict(), "cluster": handle.to_dict()}
            rest: dict[str, Any] = {
                "own_cluster": own,
                "position": position,
                "waiter": self._key(),
                "deadline": self._deadline,
            }
            self._defer(DaskJobTrigger(**records, **rest), "job_over", **records)
        return self._finish(job, handle, outcome or Outcome("unknown"))

    # --- the end ---

    def _finish(self, job: JobHandle, handle: ClusterHandle, outcome: Outcome) -> Any:
        own = self._spec() is not None
        if outcome.report:
            DaskReportLink.push(self._ti, outcome.report)
        if outcome.succeeded:
            cost = run_aside(self._delete_own(handle)) if own else None
            published = self._publish_file(job)
            result = self._result(job, outcome)
            if cost is not None:
                result["cost"] = cost
            return {**result, **published} if published else result
        text = failure_text(job.job_id, outcome)
        last = self.attempt().last
        if own and last:
            run_aside(self._delete_own(handle))
        elif not last:
            run_aside(hook_of(handle.place).extend(handle, self._until_retry() + RETRY_MARGIN))
        if not own:
            try:
                run_aside(hook_of(handle.place).check(handle))
            except ClusterGone as gone:
                raise AirflowFailException(f"{gone}\n{text}") from gone
        raise JobFailed(text)

    def _result(self, job: JobHandle, outcome: Outcome) -> Any:
        wrote = outcome.manifest or {}
        self.log.info(
            "succeeded: %s files, %s bytes under %s", wrote.get("files", 0), wrote.get("bytes", 0), job.results
        )
        return {
            "state": outcome.state,
            "job_id": job.job_id,
            "results": job.results,
            "manifest": job.manifest,
            "files": wrote.get("files", 0),
            "bytes": wrote.get("bytes", 0),
            "rows": wrote.get("rows"),
            "result": outcome.result,
        }

    def _until_retry(self) -> float:
        """Seconds until Airflow runs the next try, at most."""
        delay = self.retry_delay.total_seconds() if self.retry_delay else 0.0
        if self.retry_exponential_backoff:
            delay *= float(2 ** self.attempt().number)
            if self.max_retry_delay:
                delay = min(delay, self.max_retry_delay.total_seconds())
        return delay

    async def _delete_own(self, handle: ClusterHandle) -> dict[str, Any] | None:
        """What it has cost. The outcome is on record: a failed delete is a warning, the lease and the reaper remain."""
        hook = hook_of(handle.place)
        try:
            said = await hook.delete(handle, "its job is over", compare=True)
            cost = None if said == TAKEN_OVER else await cost_of(hook, handle, self.log)
            gone = said == TAKEN_OVER or await hook.wait_gone(handle, GONE_WITHIN)
            left = "" if gone else f", not gone after {GONE_WITHIN:.0f} s"
            self.log.info("cluster %s: %s%s", handle.name, said, left)
            return tell(cost, handle, self.log)
        except Exception:
            self.log.warning(
                "cluster %s is left to its lease, which ends %s", handle.name, handle.expires, exc_info=True
            )
            return None

    async def _end(self, *, run_over: bool) -> None:
        spec = self._spec()
        hook: ClusterHook[Any] | None = None
        handle: ClusterHandle | None = None
        if spec is not None:
            hook = hook_of(spec)
            handle = await hook.find(spec, self._owner())
        elif self.cluster:
            handle = ClusterHandle.from_dict(self.cluster)
            hook = hook_of(handle.place)
        if hook is None:
            return
        job = await hook.find_job(handle, self._owner()) if handle else None
        ours = job is None or self._is_ours(job)
        if handle is not None and spec is not None:
            ours = ours and self._is_ours(handle)
        if not ours:
            return
        said = "unknown"
        try:
            if job is not None:
                said = await hook.cancel(job)
                self.log.info("job %s: %s", job.job_id, said)
        finally:
            if handle is not None and handle.needed and said != TAKEN_OVER and (spec is not None or run_over):
                said = await hook.delete(handle, "its task was ended", compare=True)
                self.log.info("cluster %s: %s", handle.name, said)

    # --- what to run ---

    def check_sources(self, context: Any) -> None:
        """Read script and files as far as they are known before this task's turn; the create step asks for it.

        :raises InvalidInput: for what does not exist or cannot be read.
        """
        if known_ahead(self.script):
            read_script(self.render_template(self.script, context), self.conn_id)
        for field in ("files", "py_files"):
            known = [uri for uri in getattr(self, field) if known_ahead(uri)]
            read_files(field, self.render_template(known, context), self.conn_id)
        if self.python_callable is not None:
            pickle_call(self.python_callable, (), {})

    def _spec(self) -> ClusterSpec | None:
        return self._rendered(self.cluster) if isinstance(self.cluster, ClusterSpec) else None

    def _stored(self) -> Any:
        """The result that a store step left before, if there is one and it may be used."""
        stored = None
        if isinstance(self.cluster, Mapping) and not self.cluster.get("needed", True):
            stored = dict(self.cluster["stored"])
        elif self.skip_if_stored:
            from dask_provider.results import find_stored

            found = find_stored(self.skip_if_stored)
            stored = found.to_dict() if found else None
        if stored is None:
            return None
        self.log.info("nothing runs: the result is stored at %s", stored["uri"])
        fields = {name: stored.get(name) for name in ("manifest", "files", "bytes", "rows")}
        return {
            "state": "succeeded",
            "job_id": None,
            "results": stored["uri"],
            **fields,
            "result": None,
            "stored": stored,
        }

    def _bundle(self) -> Bundle:
        job = Job(
            script=read_script(self.script, self.conn_id) if self.script else None,
            module=self.module,
            call=pickle_call(self.python_callable, self.op_args, self.op_kwargs) if self.python_callable else None,
            arguments=tuple(str(argument) for argument in self._filled(self.arguments)),
            files=read_files("files", self.files, self.conn_id),
            py_files=read_files("py_files", self.py_files, self.conn_id),
            env=self._filled(self.env),
            performance_report=self.performance_report,
        )
        return make_bundle(job, self._owner(), config.staging())

    def plan(self) -> dict[str, Any]:
        spec = self.cluster if isinstance(self.cluster, ClusterSpec) else None
        function, owner = self.python_callable, self._owner()
        job_id = f"{owner.name}-1"
        return {
            "cluster": plan_of(spec, owner) if spec else self.cluster,
            "submit": {
                "job_id": job_id,
                "run": self.script or self.module or getattr(function, "__qualname__", repr(function)),
                "arguments": list(self.arguments),
                "files": list(self.files),
                "py_files": list(self.py_files),
                "env": sorted(self.env),
                "results": f"{staged(config.staging(), owner, job_id)}results/",
            },
        }
