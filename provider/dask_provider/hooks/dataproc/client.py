"""The Dataproc API as plain JSON over aiohttp: its own client library costs more than a second of CPU to import.

https://cloud.google.com/dataproc/docs/reference/rest
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import yarl

from dask_provider import __version__
from dask_provider.hooks.dataproc.access import Access, NoCredentials

Object = dict[str, Any]

#: seconds for one answer
ANSWER = 30.0
logger = logging.getLogger(__name__)


class ApiError(RuntimeError):
    """What the API refuses.

    :param status: HTTP status; 0 without an answer.
    :param reason: such as ``NOT_FOUND``, ``FAILED_PRECONDITION``, ``PERMISSION_DENIED``, ``RESOURCE_EXHAUSTED``.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason})")
        self.status, self.reason = status, reason

    @property
    def passing(self) -> bool:
        """Whether it may be over in a while: no answer, too many requests, trouble at Google's side."""
        return self.status == 0 or self.status == 429 or self.status >= 500


class Client:
    """One who speaks to Dataproc in one region of a project, and to Cloud Storage; ``async with Client(...) as c``.

    Every request may be sent again: what makes something carries a ``requestId`` or the name of what it makes, so a
    lost answer never makes a second one.

    :param patience: seconds that one call may take with all its tries.
    """

    def __init__(self, access: Access, project_id: str, region: str, *, patience: float = 60.0) -> None:
        self.access, self.project_id, self.region, self.patience = access, project_id, region, patience
        self._host = (access.endpoint or f"https://{region}-dataproc.googleapis.com").rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    # --- what there is ---

    def clusters(self, name: str = "") -> str:
        """The path of all clusters, or of one."""
        return self._path("clusters", name)

    def jobs(self, job_id: str = "") -> str:
        """The path of all jobs, or of one."""
        return self._path("jobs", job_id)

    def policies(self, policy_id: str = "") -> str:
        """The path of all autoscaling policies, or of one."""
        return self._path("autoscalingPolicies", policy_id)

    def _path(self, kind: str, name: str) -> str:
        region = f"projects/{quote(self.project_id, safe=':')}/regions/{self.region}"
        return f"{region}/{kind}{f'/{quote(name)}' if name else ''}"

    # --- requests ---

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """:raises ApiError: 404 when it does not exist."""
        return await self.call("GET", path, query=query)

    async def find(self, path: str) -> Object | None:
        """What is at that path, if anything is."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, path: str, key: str, query: Mapping[str, str] | None = None) -> list[Object]:
        """All there are, over all pages.

        :param key: where an answer has them: ``clusters``, ``jobs``.
        """
        found: list[Object] = []
        page: str | None = None
        while page is None or page:
            answer = await self.call("GET", path, query={**(query or {}), **({"pageToken": page} if page else {})})
            found += answer.get(key, [])
            page = answer.get("nextPageToken", "")
        return found

    async def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Object | None = None
    ) -> Object:
        """One request, tried again while Google is busy or away.

        :raises ApiError: for what does not pass, or has not within ``patience``.
        """
        content = None if body is None else json.dumps(body).encode()
        json_type = {"Content-Type": "application/json"}
        return _object(path, await self._again(method, f"{self._host}/v1/{path}", query, content, json_type))

    async def ask(self, service: str, path: str, body: Object | None = None) -> Object:
        """A question to another API of Google; tried again likewise.

        :param service: such as ``compute`` or ``iam``.
        :param path: with its version: ``compute/v1/projects/...``.
        :param body: for questions that are sent by POST.
        :raises ApiError: with reason ``SERVICE_DISABLED`` when the project does not use that API.
        """
        host = (self.access.google_endpoint or f"https://{service}.googleapis.com").rstrip("/")
        content = None if body is None else json.dumps(body).encode()
        method, json_type = "GET" if body is None else "POST", {"Content-Type": "application/json"}
        return _object(path, await self._again(method, f"{host}/{path}", None, content, json_type))

    async def storage(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request to Cloud Storage, likewise."""
        host = (self.access.storage_endpoint or "https://storage.googleapis.com").rstrip("/")
        return await self._again(method, f"{host}/{path}", query, content, headers or {})

    async def storage_json(self, path: str, query: Mapping[str, str]) -> Object:
        """What Cloud Storage answers to a question."""
        return _object(path, await self.storage("GET", path, query))

    async def _again(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> bytes:
        loop = asyncio.get_running_loop()
        until, pause, fresh = loop.time() + self.patience, 0.5, False
        while True:
            try:
                return await self._once(method, url, query, content, headers, fresh=fresh)
            except ApiError as error:
                if error.status == 401 and not fresh:
                    fresh = True
                    continue
                if not error.passing or loop.time() + pause > until:
                    raise
                logger.warning("Dataproc: %s; trying again", error)
            await asyncio.sleep(pause * random.uniform(1.0, 1.5))
            pause = min(10.0, pause * 2)

    async def _once(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None,
        content: bytes | None,
        headers: Mapping[str, str],
        *,
        fresh: bool,
    ) -> bytes:
        headers = {"User-Agent": f"airflow-provider-dask/{__version__}", **headers}
        if self.access.quota_project_id:
            headers["x-goog-user-project"] = self.access.quota_project_id
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True)
        # Encoded by ourselves: names of objects hold slashes that are no path.
        where = yarl.URL(f"{url}{'?' if query else ''}{urlencode(query or {})}", encoded=True)
        try:
            if token := await self.access.token(fresh=fresh):
                headers["Authorization"] = f"Bearer {token}"
            sent = self._session.request(method, where, data=content, headers=headers, allow_redirects=False)
            async with sent as response:
                answer = await response.read()
        except NoCredentials as error:
            raise ApiError(401, "UNAUTHENTICATED", str(error)) from None
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            # Not chained: an error of aiohttp may hold the request with its headers.
            raise ApiError(0, type(error).__name__, f"{where.origin()} does not answer") from None
        if response.status >= 300:
            raise refusal(response.status, where.path, answer)
        return answer


def refusal(status: int, path: str, content: bytes) -> ApiError:
    """The error that an answer is. Pure."""
    error: Any = None
    with contextlib.suppress(ValueError, AttributeError):
        error = json.loads(content).get("error")
    said = content[:300].decode(errors="replace").strip()
    details = error if isinstance(error, dict) else {}
    # Older APIs, as Compute Engine's, say it in their own word.
    causes = {each.get("reason") for name in ("details", "errors") for each in details.get(name) or ()}
    disabled = "SERVICE_DISABLED" if causes & {"SERVICE_DISABLED", "accessNotConfigured"} else None
    reason = disabled or details.get("status") or f"HTTP {status}"
    return ApiError(status, reason, details.get("message") or f"{path}: {said}")


def _object(path: str, content: bytes) -> Object:
    try:
        answer: Object = json.loads(content or b"{}")
    except ValueError:
        raise ApiError(502, "NoJson", f"{path}: not JSON but {content[:200].decode(errors='replace')!r}") from None
    return answer
