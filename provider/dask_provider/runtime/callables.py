"""Runs a pickled function in a process of its own; the answer goes back as JSON, because Airflow loads no pickle."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

#: bytes of JSON above which a result is left as a file instead of travelling through Airflow's database
LARGE = 48 * 1024


def main(arguments: list[str]) -> int:
    """``call CALL.PKL RESULT.JSON``: the pickle is (function, args, kwargs), the answer ``value`` or ``uri``."""
    call, answer = arguments
    function, args, kwargs = pickle.loads(Path(call).read_bytes())
    value = function(*args, **kwargs)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        print(
            f"the function returned {type(value).__name__}, which JSON cannot hold ({error}); allowed: JSON values. "
            "Write anything else to files under os.environ['DASK_JOB_RESULTS']",
            file=sys.stderr,
        )
        return 65
    if len(text) <= LARGE:
        Path(answer).write_text('{"value": ' + text + "}")
    else:
        import fsspec

        uri = os.environ["DASK_JOB_RESULTS"] + "result.json"
        with fsspec.open(uri, "w", auto_mkdir=True) as file:
            file.write(text)
        Path(answer).write_text(json.dumps({"uri": uri}))
    return 0
