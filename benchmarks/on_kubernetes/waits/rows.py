"""Copies of a deferred task: `rows.py RUN_ID COUNT NAME`, with the settings of the Airflow in question.

Each copy is a task instance of its own (map index 0 to COUNT - 1) in the state "deferred" with a trigger of its own,
in which the name of the job, NAME, has become `NAME<map index>`. Written as rows, because 1,000 tasks on their way
through scheduler and worker would take an hour of these cores and end in the very same rows.
"""

from __future__ import annotations

import json
import sys
import uuid

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from sqlalchemy import insert, select


def main(run_id: str, count: int, name: str) -> None:
    table = TaskInstance.__table__
    with create_session() as session:
        where = (table.c.run_id == run_id, table.c.task_id == "job", table.c.map_index == -1)
        original = dict(session.execute(select(table).where(*where)).one()._mapping)
        trigger = session.get(Trigger, original["trigger_id"])
        assert trigger is not None
        text = json.dumps(trigger.kwargs)
        for index in range(count):
            kwargs = json.loads(text.replace(name, f"{name}{index}"))
            if "waiter" in kwargs:
                kwargs["waiter"]["map_index"] = index
            copy = Trigger(trigger.classpath, kwargs)
            session.add(copy)
            session.flush()
            own = {"id": uuid.uuid4(), "map_index": index, "trigger_id": copy.id}
            session.execute(insert(table).values({**original, **own}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
