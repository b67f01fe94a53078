"""The steps around one job per file: find what is to be done, and sum up what was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dask_provider._compat import AirflowFailException, AirflowSkipException, BaseOperator, conf, task_state
from dask_provider.errors import InvalidInput
from dask_provider.operators.following import owner_of_file
from dask_provider.units import parse_count

#: names of files that a summary lists at most
SHOWN = 20


class FindFilesOperator(BaseOperator):
    """Lists inputs and outputs, and returns the files whose output is missing; one listing each, no look at a file.

    Its XCom ``found`` counts ``inputs``, ``done_before`` and ``left`` (for a later run, see ``limit``).

    :param inputs: path or URI with ``*``, ``?``, ``[...]`` or ``**``. Templated.
    :param outputs: path or URI of an output, with ``{stem}`` or ``{name}``. Templated.
    :param limit: at most so many files; the others are left to a later run. ``None``: all.
    :param may_be_empty: that no file matches is no mistake.
    """

    template_fields: Sequence[str] = ("inputs", "outputs", "limit")
    ui_color = "#e4ecf7"

    def __init__(
        self, *, inputs: str, outputs: str, limit: int | str | None = None, may_be_empty: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.inputs = inputs
        self.outputs = outputs
        self.limit = limit
        self.may_be_empty = may_be_empty

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """The files to work on, each as a record of :class:`dask_provider.publish.files.FileWork`."""
        try:
            return self._find(context)
        except InvalidInput as error:  # a retry would be told the same
            raise AirflowFailException(str(error)) from error

    def _find(self, context: Any) -> list[dict[str, Any]]:
        from dask_provider.publish.files import find_inputs, finished, plan_outputs

        inputs = find_inputs(self.inputs)
        if not inputs and not self.may_be_empty:
            raise InvalidInput("inputs", self.inputs, "a pattern that a file matches (or may_be_empty=True)")
        works = plan_outputs(inputs, self.outputs)
        done = finished(works)
        to_do = [work for work in works if work.path not in done]
        most = conf.getint("core", "max_map_length", fallback=1024)
        wanted = most if self.limit is None else parse_count("limit", self.limit)
        if wanted > most or (self.limit is None and len(to_do) > most):
            allowed = f"at most {most} files in one run, [core] max_map_length of Airflow: raise it, or set limit"
            raise InvalidInput("limit", self.limit, f"{allowed}; {len(to_do)} of {len(works)} files are to be done")
        now = to_do[:wanted]
        counts = {"inputs": len(works), "done_before": len(done), "left": len(to_do) - len(now)}
        context["ti"].xcom_push(key="found", value=counts)
        later = f", {counts['left']} are left to a later run" if counts["left"] else ""
        self.log.info("%s files: %s done before, %s to do%s", len(works), len(done), len(now), later)
        return [work.to_dict() for work in now]


class SumUpFilesOperator(BaseOperator):
    """Tells what became of the files, by a listing of the outputs; fails when one is missing.

    Returns ``inputs``, ``done_before``, ``ran``, ``failed``, ``left`` and ``failed_files`` (input and index of the
    mapped task, the first of them).

    :param find_id: id of the task that found the files.
    :param run_id: id of the mapped task.
    """

    ui_color = "#e4ecf7"

    def __init__(self, *, find_id: str, run_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.find_id = find_id
        self.run_task_id = run_id

    def execute(self, context: Any) -> dict[str, Any]:
        """The counts."""
        from dask_provider.publish.files import FileWork, finished, forget_unfinished

        ti = context["ti"]
        found, files = (ti.xcom_pull(task_ids=self.find_id, key=key) for key in ("found", "return_value"))
        if found is None or files is None:
            state = task_state(ti.dag_id, ti.run_id, self.find_id, -1)
            if state == "skipped":
                raise AirflowSkipException(f"{self.find_id} was skipped")
            raise AirflowFailException(f"{self.find_id} is {state}: nobody knows which files there are")
        works = [FileWork.from_dict(record) for record in files]
        done = finished(works)
        missing = [(index, work) for index, work in enumerate(works) if work.path not in done]
        names = {owner_of_file(ti.dag_id, ti.run_id, self.run_task_id, work.input).name for work in works}
        if removed := forget_unfinished(works, names):
            self.log.info("removed %s unfinished files", removed)
        failed = [{"input": work.input, "map_index": index} for index, work in missing[:SHOWN]]
        counts = {**found, "ran": len(works) - len(missing), "failed": len(missing), "failed_files": failed}
        text = f"{found['done_before']} done before, {counts['ran']} ran, {counts['failed']} failed"
        if found["left"]:
            text += f", {found['left']} left to a later run"
        if missing:
            ti.xcom_push(key="return_value", value=counts)  # a step that fails returns nothing
            shown = ", ".join(f"{one['input']} ({self.run_task_id}[{one['map_index']}])" for one in failed)
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise AirflowFailException(f"{text}: {shown}{more}")
        self.log.info("%s", text)
        return counts
