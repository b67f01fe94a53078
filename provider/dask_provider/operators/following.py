"""What the operators of jobs share: following one, and working on one file of many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from dask_provider import config
from dask_provider._compat import AirflowFailException
from dask_provider.handles import JobHandle
from dask_provider.hooks.base import ClusterHook, News
from dask_provider.joblog import JobLog
from dask_provider.jobs import JOB_ID
from dask_provider.operators.base import DaskOperator
from dask_provider.outcomes import Outcome
from dask_provider.owner import Owner
from dask_provider.units import human_bytes

if TYPE_CHECKING:
    from dask_provider.publish.files import FileWork


def owner_of_file(dag_id: str, run_id: str, task_id: str, uri: str) -> Owner:
    """Whose a job for one file is: of the file, whatever its place in the list. Its name begins with the file's."""
    name = uri.rpartition("/")[2]
    return Owner(config.instance(), dag_id, run_id, f"{name.rpartition('.')[0] or name}/{task_id}/{uri}")


class FollowingOperator(DaskOperator):
    """Base of the operators that run a job.

    :param file: the file to work on, of many; :func:`~dask_provider.task_groups.for_each_file` sets it.
    """

    def __init__(self, *, file: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file = file

    async def _follow(self, hook: ClusterHook[Any], job: JobHandle) -> tuple[Outcome | None, int]:
        """The outcome, or ``None`` when it is time to defer, and how far the log was shown."""
        show = JobLog(self.log)
        position = 0

        async def outcomes(source: AsyncIterator[News]) -> AsyncIterator[Outcome]:
            nonlocal position
            async for news in source:
                show.show(news)
                position = news.position
                if news.outcome is not None:
                    yield news.outcome

        return await self.first(outcomes(hook.watch(job, position=0, eager=True)), job.place), position

    # --- one file of many ---

    @property
    def _work(self) -> FileWork | None:
        if self.file is None:
            return None
        from dask_provider.publish.files import FileWork

        return FileWork.from_dict(self.file)

    def _owner(self, task_id: str | None = None) -> Owner:
        if self.file is None:
            return super()._owner(task_id)
        ti = self._ti
        return owner_of_file(ti.dag_id, ti.run_id, ti.task_id, self.file["input"])

    def _filled(self, value: Any, escape: Callable[[str], str] = str) -> Any:
        """The value with ``{input}``, ``{output}``, ``{name}`` and ``{stem}`` filled in; what else it holds stays."""
        if (work := self._work) is None:
            return value
        from dask_provider.publish.files import fill

        return fill(value, work.words(JOB_ID, escape))

    def _prepare_file(self) -> None:
        if (work := self._work) is not None:
            from dask_provider.publish.files import prepare

            self.log.info("%s -> %s", work.input, work.output)
            prepare(work, f"{self._owner().name}-{self.attempt().number}")

    def _publish_file(self, job: JobHandle) -> dict[str, Any]:
        """What the job wrote becomes the output; only here, so what is there is complete.

        :raises AirflowFailException: it wrote nothing, and would not the next time.
        """
        if (work := self._work) is None:
            return {}
        from dask_provider.publish.files import finished, publish

        size = publish(work, job.job_id)
        if size is None and not (job.adopted and finished([work])):  # else an earlier try was killed after publishing
            text = f"job {job.job_id} succeeded, but wrote no file to the path that {{output}} stands for"
            raise AirflowFailException(f"{text}: {work.words(job.job_id)['output']}")
        self.log.info("%s: %s", work.output, "published before" if size is None else human_bytes(size))
        return {"input": work.input, "output": work.output}
