"""What the operators share: who they are, how they wait, and what they do when they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from dask_provider import config
from dask_provider._compat import (
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
    TaskDeferralError,
    current_context,
    missing_value,
    run_is_over,
    task_state,
)
from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import InvalidInput, JobFailed
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.owner import Attempt, Owner, TaskKey
from dask_provider.sideloop import DeadlinePassed, run_aside, until, within

T = TypeVar("T")
#: seconds that Airflow has to tell what became of the task; a killed task has about five in all
ASK_WITHIN = 1.0
#: seconds for asking, cancelling and deleting when killed
END_WITHIN = 4.5
#: seconds that Airflow's own time-out of a deferral comes after ours
MARGIN = 60.0

#: seconds between the start of a try as its worker and as Airflow's database knows it, at most
SAME_TRY = 30.0


class DaskOperator(BaseOperator):
    """Base of the operators that create, use or delete clusters.

    :param deferrable: wait in the triggerer instead of a worker slot; ``None``: as ``[operators] default_deferrable``
        says (on ``local`` and ``existing`` only with the LocalExecutor). A deferrable step first waits by itself for
        ``[dask] sync_seconds``, so that a short one never pays for a deferral.
    """

    def __init__(self, *, deferrable: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self._context: Any = None
        self._began: float | None = None
        #: set when the step was killed: Airflow 3 lets it go on for some seconds, in which it must start nothing
        self.ended = False

    def execute(self, context: Any) -> Any:
        """Airflow's way in."""
        if context is not self._context:
            self._began = None
        self._context = context
        for link in self.operator_extra_links:
            link.push(self._ti, "")  # Airflow asks for each at the end, and complains of those that were never pushed
        with self._nothing_left():
            return self.work()

    def work(self) -> Any:
        """What the step does."""
        raise NotImplementedError

    # --- who ---

    @property
    def _ti(self) -> Any:
        # on_kill may meet a fresh instance that never ran execute.
        context = self._context if self._context is not None else current_context()
        return context["ti"]

    def _owner(self, task_id: str | None = None) -> Owner:
        ti = self._ti
        return Owner(config.instance(), ti.dag_id, ti.run_id, task_id or self.task_id, ti.map_index)

    def attempt(self) -> Attempt:
        """Which try this is."""
        ti = self._ti
        return Attempt.of(
            ti.try_number, ti.max_tries, self.retries or 0, started=self._started(), deadline=self._deadline
        )

    def _is_ours(self, found: ClusterHandle | JobHandle) -> bool:
        """Whether this try may end it: as long as it is no newer try's, also what an older one left."""
        attempt = self.attempt()
        # A blank operator, killed while its task was deferred, knows only Airflow's start of it: see _defer.
        same = found.attempt == attempt.number and abs(found.started - attempt.started) < SAME_TRY
        return same or not attempt.is_overtaken_by(found.attempt, found.started)

    def _started(self) -> float:
        """When this try began, seconds since the epoch: the same before and after a deferral."""
        if self._began is None:
            start_date = self._ti.start_date
            self._began = time.time() if start_date is None else start_date.timestamp()
        return self._began

    def _key(self) -> TaskKey:
        ti = self._ti
        return TaskKey(dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index)

    def _rendered(self, spec: ClusterSpec) -> ClusterSpec:
        # Not by Airflow's renderer: it sets attributes, and specs are frozen.
        context = self._context if self._context is not None else current_context()

        def render(value: Any) -> Any:
            try:
                return self.render_template(value, context)
            except Exception as error:
                if (missing := missing_value(error)) is None:
                    raise
                allowed = f"templates whose values are there ({missing})"
                raise InvalidInput(type(spec).__name__, value, allowed) from error

        return spec.rendered(render)

    # --- how long ---

    @property
    def _deadline(self) -> float | None:
        """When ``execution_timeout`` is over, seconds since the epoch; counted from the start of this try."""
        if self.execution_timeout is None:
            return None
        return float(self._started() + self.execution_timeout.total_seconds())

    def _defers(self, place: str) -> bool:
        return config.default_deferrable(place) if self.deferrable is None else self.deferrable

    async def first(self, source: AsyncIterator[T], place: str, longest_sync: float = math.inf) -> T | None:
        """The first item, or ``None`` when it is time to defer."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(config.sync_seconds(), longest_sync) if self._defers(place) else None
        try:
            async with contextlib.aclosing(until(ends, source)) as items:
                async for item in items:
                    return item
        except DeadlinePassed:
            return None
        raise RuntimeError("the wait ended without an answer")

    def _defer(self, trigger: Any, method: str, until: float | None = None, **kwargs: Any) -> None:
        """Go on in ``method`` once the trigger has fired.

        :param until: seconds since the epoch; it fails a minute later, also if no triggerer runs; default: as
            ``execution_timeout`` says.
        """
        ends = [each for each in (until, self._deadline) if each is not None]
        timeout = timedelta(seconds=max(0.0, min(ends) - time.time()) + MARGIN) if ends else None
        # Airflow's own start_date is another one afterwards: that of its database, a moment before the worker's.
        kwargs |= {"attempt": self.attempt().number, "started": self._started()}
        self.defer(trigger=trigger, method_name=method, kwargs=kwargs, timeout=timeout)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Airflow's way back from a deferral; a wait that failed or timed out is the third way to be killed."""
        self._context = context
        deferred_by, began = ((next_kwargs or {}).pop(name, None) for name in ("attempt", "started"))
        if deferred_by is not None and deferred_by != self.attempt().number:
            # Airflow 3 does that to a task that was deferred, had come back, and was cleared while it ran. The
            # start_date is that of the other try, too.
            self._began = time.time()
            self.log.info("try %s had deferred; this is another one and starts from the beginning", deferred_by)
            return self.execute(context)
        self._began = began
        with self._nothing_left():
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except TaskDeferralError:
                if self._timed_out():
                    run_aside(self._end(run_over=False), END_WITHIN)
                raise

    def _check_event(self, event: dict[str, Any]) -> None:
        """:raises AirflowTaskTimeout: when the trigger met the deadline; what runs is ended first.
        :raises RuntimeError: when the wait itself failed.
        """
        if event.get("timeout"):
            run_aside(self._end(run_over=False), END_WITHIN)
            raise AirflowTaskTimeout(f"execution_timeout of {self.execution_timeout} is over")
        if "error" in event:
            raise RuntimeError(f"the wait in the triggerer failed: {event['error']}")

    # --- the end ---

    @contextlib.contextmanager
    def _nothing_left(self) -> Iterator[None]:
        """A step that fails for good ends what it has started; before a retry it is left for that to find."""
        try:
            yield
        except JobFailed:
            raise  # whoever says so has tidied up
        except Exception as error:
            for_good = isinstance(error, AirflowFailException | InvalidInput)
            if for_good or self.attempt().last:
                try:
                    run_aside(self._end(run_over=False), END_WITHIN)
                except Exception as left:
                    # Refused alike on the first try: nothing was ever asked for.
                    if str(left) != str(error) or self.attempt().number > 1:
                        self.log.warning("what this task started is left to its lease", exc_info=True)
            if isinstance(error, InvalidInput):  # a retry would be told the same
                raise AirflowFailException(str(error)) from error
            raise

    async def _end(self, *, run_over: bool) -> None:
        """End what this task has started, from ids and rendered fields alone.

        :param run_over: no teardown will come.
        """

    def stop_if_ended(self) -> None:
        """A step that was killed while it started something ends that, too.

        :raises JobFailed: then.
        """
        if self.ended:
            run_aside(self._end(run_over=False))
            raise JobFailed("the step was ended while its job was being started")

    def _timed_out(self) -> bool:
        deadline = self._deadline
        return deadline is not None and time.time() >= deadline - 1

    def on_kill(self) -> None:
        """Runs in a signal handler: cancels, unless the next try is to find the job still running."""
        began = time.monotonic()
        if not self._timed_out():
            key = self._key()
            try:
                state = within(ASK_WITHIN, task_state, key["dag_id"], key["run_id"], key["task_id"], key["map_index"])
            except Exception as error:  # noqa: BLE001  whatever it is: the state cannot be had
                state = f"unknown ({error})"
            goes_on = state.startswith(("running", "up_for_retry", "unknown"))
            if goes_on and not self.attempt().last:
                self.log.warning("killed while the task is %s and a retry is left: the next try goes on with it", state)
                return
        try:
            over = within(ASK_WITHIN, run_is_over, self._ti.dag_id, self._ti.run_id)
        except Exception:  # noqa: BLE001  then a teardown may still come
            over = False
        self.log.info("killed: what this task started is ended")
        self.ended = True
        run_aside(self._end(run_over=over), END_WITHIN - (time.monotonic() - began))

    # --- dry run ---

    def plan(self) -> dict[str, Any]:
        """What would be created or submitted. Pure: no I/O at the place."""
        return {}

    def dry_run(self) -> None:
        """Print the plan as JSON."""
        self._context = {"ti": _NoTaskInstance(self)}
        print(json.dumps(self.plan(), indent=2, default=repr, sort_keys=True))


class _NoTaskInstance:
    """Stands for the task instance where there is none: names in a dry run end in the digest of "dry-run"."""

    def __init__(self, task: DaskOperator) -> None:
        self.dag_id = getattr(task, "dag_id", "dry-run")
        self.run_id = "dry-run"
        self.task_id = task.task_id
        self.map_index = -1
        self.try_number = 1
        self.max_tries = task.retries or 0
        self.start_date = None
