"""The few things that we need of Cloud Storage, over the client that is open already.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from dask_provider import config
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc.client import ApiError, Client
from dask_provider.storage import split_connection


@dataclass(frozen=True)
class Blob:
    """An object.

    :param uri: ``gs://bucket/name``.
    :param size: bytes.
    :param created: when it was written, by Google's clock; as text these are in order.
    """

    uri: str
    size: int
    created: str


def staging() -> str:
    """``gs://bucket/prefix/`` below which bundles and results lie, without a connection in it.

    :raises InvalidInput: when it is elsewhere: Dataproc reads from Cloud Storage alone.
    """
    prefix = split_connection(config.staging())[1]
    if config.staging_is_default() or not prefix.startswith("gs://"):
        raise InvalidInput("[dask] staging", config.staging(), "gs://bucket/prefix, which Dataproc and Airflow reach")
    return prefix


def bucket() -> str:
    """The bucket of :func:`staging`, which Airflow reads."""
    return _parts(staging())[0]


async def write(client: Client, uri: str, content: bytes) -> None:
    """Make the object; one that is there already has the same content, as its name says so."""
    bucket, name = _parts(uri)
    query = {"uploadType": "media", "name": name, "ifGenerationMatch": "0"}
    try:
        await client.storage("POST", f"upload/storage/v1/b/{bucket}/o", query, content)
    except ApiError as error:
        if error.status != 412:
            raise


async def read(client: Client, uri: str, start: int = 0, most: int | None = None) -> bytes:
    """Its bytes from ``start`` on; none when it has no more.

    :param most: bytes at most.
    """
    bucket, name = _parts(uri)
    path = f"storage/v1/b/{bucket}/o/{quote(name, safe='')}"
    span = f"bytes={start}-{'' if most is None else start + most - 1}"
    try:
        return await client.storage("GET", path, {"alt": "media"}, headers={"Range": span})
    except ApiError as error:
        if error.status == 416:
            return b""
        raise


async def remove(client: Client, uri: str) -> None:
    """Remove an object; one that is gone already is fine."""
    bucket, name = _parts(uri)
    try:
        await client.storage("DELETE", f"storage/v1/b/{bucket}/o/{quote(name, safe='')}")
    except ApiError as error:
        if error.status != 404:
            raise


async def found(client: Client, prefix: str) -> list[Blob]:
    """The objects whose URI begins so, in order."""
    bucket, start = _parts(prefix)
    blobs: list[Blob] = []
    query: Mapping[str, str] = {"prefix": start, "fields": "items(name,size,timeCreated),nextPageToken"}
    page: str | None = None
    while page is None or page:
        answer = await client.storage_json(
            f"storage/v1/b/{bucket}/o", {**query, **({"pageToken": page} if page else {})}
        )
        for item in answer.get("items", []):
            blobs.append(Blob(f"gs://{bucket}/{item['name']}", int(item["size"]), item["timeCreated"].rstrip("Z")))
        page = answer.get("nextPageToken", "")
    return blobs


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name
