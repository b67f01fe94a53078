"""Objects of a GCS server, as the service and its nodes read and write them."""

from __future__ import annotations

from types import TracebackType
from urllib.parse import quote

import aiohttp


class Objects:
    """:param url: of the server, ``http://127.0.0.1:4443``."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Objects:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use it with `async with`")
        return self._session

    async def read(self, uri: str) -> bytes:
        """:raises FileNotFoundError: there is no such object."""
        bucket, name = split(uri)
        address = f"{self._url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        async with self.session.get(address, params={"alt": "media"}) as answer:
            if answer.status == 404:
                raise FileNotFoundError(uri)
            answer.raise_for_status()
            return await answer.read()

    async def write(self, uri: str, content: bytes) -> None:
        bucket, name = split(uri)
        address = f"{self._url}/upload/storage/v1/b/{bucket}/o"
        parameters = {"uploadType": "media", "name": name}
        headers = {"Content-Type": "application/octet-stream"}
        async with self.session.post(address, params=parameters, data=content, headers=headers) as answer:
            answer.raise_for_status()

    async def exists(self, uri: str) -> bool:
        bucket, name = split(uri)
        return await self._there(f"{self._url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}")

    async def has_bucket(self, bucket: str) -> bool:
        return await self._there(f"{self._url}/storage/v1/b/{bucket}")

    async def make_bucket(self, bucket: str) -> None:
        """Create it, if it is not there."""
        if not await self.has_bucket(bucket):
            parameters = {"project": "dataproc"}
            async with self.session.post(
                f"{self._url}/storage/v1/b", params=parameters, json={"name": bucket}
            ) as answer:
                if answer.status != 409:
                    answer.raise_for_status()

    async def _there(self, address: str) -> bool:
        async with self.session.get(address) as answer:
            if answer.status == 404:
                return False
            answer.raise_for_status()
            return True


def split(uri: str) -> tuple[str, str]:
    """Bucket and name.

    :raises ValueError: not the URI of an object.
    """
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket or not name:
        raise ValueError(f"{uri!r} is no gs:// URI of an object")
    return bucket, name
