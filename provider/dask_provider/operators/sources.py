"""What a job is made of, read before anything is started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_provider.errors import InvalidInput


def read_script(uri: str, conn_id: str | None) -> tuple[str, bytes]:
    """File name and content of a script.

    :raises InvalidInput: when it is no Python file, does not exist, is empty, or cannot be read.
    """
    from dask_provider.storage import read_bytes

    name = _name("script", uri)
    if not name.endswith(".py"):
        raise InvalidInput("script", uri, "a Python file, its name ends in .py")
    content = read_bytes("script", uri, conn_id)
    if not content.strip():
        raise InvalidInput("script", uri, "a Python file that is not empty")
    return name, content


def read_files(field: str, uris: Sequence[str], conn_id: str | None) -> dict[str, bytes]:
    """Content by file name.

    :raises InvalidInput: when one cannot be read, or two have the same name.
    """
    from dask_provider.storage import read_bytes

    found: dict[str, bytes] = {}
    for uri in uris:
        name = _name(field, uri)
        if name in found:
            raise InvalidInput(field, uri, f"files of different names; {name} is there twice")
        found[name] = read_bytes(field, uri, conn_id)
    return found


def pickle_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """The call as cloudpickle writes it; the module of the DAG goes along by value, the cluster has no such file.

    :raises InvalidInput: for something that cannot be pickled.
    """
    import cloudpickle

    module = sys.modules.get(function.__module__)
    ours = module is not None and function.__module__ != "__main__"
    if ours:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps((function, tuple(args), dict(kwargs))))
    except Exception as error:
        raise InvalidInput(
            "python_callable",
            getattr(function, "__name__", function),
            f"a function that cloudpickle can write, with its arguments ({error})",
        ) from error
    finally:
        if ours:
            cloudpickle.unregister_pickle_by_value(module)


def _name(field: str, uri: str) -> str:
    name = uri.rstrip("/").rpartition("/")[2]
    if not name:
        raise InvalidInput(field, uri, "path or URI of a file")
    return name
