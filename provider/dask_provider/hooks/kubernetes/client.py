"""The Kubernetes API as plain JSON over aiohttp: no models, which cost more than a second of CPU to import.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import aiohttp
import yarl

from dask_provider import __version__
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.errors import ApiError, Unreachable, Untrusted, of_status
from dask_provider.hooks.kubernetes.objects import Object
from dask_provider.hooks.kubernetes.paths import Labels, pods, selector, services
from dask_provider.hooks.kubernetes.retries import Trouble
from dask_provider.hooks.kubernetes.streams import LONGEST_EVENT, LONGEST_LINE, event_of, keep_alive, lines, log_line
from dask_provider.hooks.kubernetes.tokens import NoCredentials

logger = logging.getLogger(__name__)
_let_in: set[str] = set()  # keys of the accesses that a server has accepted, in this process

#: seconds after which a stream of log lines that says nothing is opened anew
QUIET = 300.0
#: seconds that the end of a watch may be late before its connection is given up
SLACK = 15.0
#: requests of one client at a time, watches and logs not counted
AT_ONCE = 16
#: seconds for which a server that has just started may refuse whom it knows
NEW = 20.0
#: nothing was sent yet; the second one is new in aiohttp 3.10
UNSENT = (aiohttp.ClientConnectorError, getattr(aiohttp, "ConnectionTimeoutError", aiohttp.ClientConnectorError))


class Client:
    """One who speaks to one API server; ``async with Client(access) as k``.

    Every call may raise :class:`ApiError`, :class:`Unreachable` without an answer. Reads are tried again while the
    server is busy or away; what changes something only when it certainly has not been done.

    :param patience: seconds that one call may take with all its tries; ``math.inf``: try for ever.
    """

    def __init__(self, access: Access, *, patience: float = 30.0) -> None:
        self.access, self.patience = access, patience
        self._session: aiohttp.ClientSession | None = None
        self._slots: asyncio.Semaphore | None = None
        self._closed = False

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Object:
        """One object."""
        return await self._read("GET", path)

    async def list(self, path: str, *, labels: Labels = None, fields: Labels = None) -> Object:
        """The objects as ``items``; ``metadata.resourceVersion`` is what :meth:`watch` goes on from."""
        query = {"labelSelector": selector(labels), "fieldSelector": selector(fields)}
        return await self._read("GET", path, query)

    async def create(self, path: str, body: Object, *, dry_run: bool = False) -> Object:
        """:raises ApiError: 409 when it exists; 404 without the namespace or the resource type."""
        return await self._change("POST", path, {"dryRun": "All" if dry_run else None}, body)

    async def patch(
        self,
        path: str,
        body: Any,
        *,
        kind: str = "merge",
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Object:
        """Change one object: a merge patch, or the list of operations of a JSON patch.

        :param uid: only if it is still this very object.
        :param resource_version: only if it has not changed since.
        :raises ApiError: 409 when it has, or is not.
        """
        wanted = {"resourceVersion": resource_version, "uid": uid}
        conditions = {name: value for name, value in wanted.items() if value is not None}
        if kind == "merge" and conditions:
            body = {**body, "metadata": {**body.get("metadata", {}), **conditions}}
        elif kind == "json":
            # Not `test`, which would fail with 422: written so, the server compares as for any other change.
            steps = [{"op": "replace", "path": f"/metadata/{name}", "value": conditions[name]} for name in conditions]
            body = [*steps, *body]
        try:
            return await self._change("PATCH", path, None, body, f"application/{kind}-patch+json")
        except ApiError as error:
            if error.status == 422 and "metadata.uid" in [c.get("field") for c in error.details.get("causes") or ()]:
                # For the server that is a try to change the uid; for us one that came too late.
                raise ApiError(409, "Conflict", f"{error.details.get('name')} is another one now") from None
            raise

    async def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str = "Foreground",
        grace: int | None = None,
    ) -> Object:
        """Ask for the end of one object.

        :param uid: only if it is still this very object.
        :param resource_version: only if it has not changed since.
        :param propagation: ``Foreground``: what belongs to it goes first; ``Background``: afterwards.
        :param grace: seconds that pods get to end.
        :raises ApiError: 404 when it is gone, 409 when it is another one or has changed.
        """
        conditions = {"uid": uid, "resourceVersion": resource_version}
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if found := {name: value for name, value in conditions.items() if value is not None}:
            options["preconditions"] = found
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        return await self._change("DELETE", path, None, options)

    async def may(
        self, verb: str, group: str, resource: str, namespace: str, subresource: str = ""
    ) -> tuple[bool, str]:
        """Whether we have a right, and why (not), as far as the server says."""
        asked = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**asked, "subresource": subresource}},
        }
        # Changes nothing, so it is tried again like a read.
        answer = await self._read("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", None, review)
        status = answer["status"]
        return bool(status["allowed"]), status.get("reason") or status.get("evaluationError") or ""

    async def proxy_get(self, namespace: str, service: str, port: int | str, path: str) -> Any:
        """JSON from an HTTP server behind a service; asked once, since 503 says that no pod is ready.

        :raises ApiError: with the service's own status, or 502 when what it says is no JSON.
        """
        behind = f"{services(namespace, f'{service}:{port}')}/proxy/{path.lstrip('/')}"
        return await self._change("GET", behind, None, None)

    async def watch(
        self, path: str, *, resource_version: str, labels: Labels = None, timeout: float = 300
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """``ADDED``, ``MODIFIED`` or ``DELETED`` with the object: everything after ``resource_version``, without end.

        Goes on by itself, with nothing left out, after the server was away or busy.

        :param timeout: seconds after which the connection is made anew, so that a dead one is noticed.
        :raises Expired: when the server no longer knows what happened since then: list again.
        :raises ApiError: for what does not pass by waiting: 401, 403, 404.
        """
        version, trouble = resource_version, Trouble(float("inf"))
        while True:
            seconds = max(1, int(timeout * random.uniform(0.9, 1.1)))
            query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
            query |= {"resourceVersion": version, "labelSelector": selector(labels) or ""}
            began = asyncio.get_running_loop().time()
            try:
                async with self._send("GET", path, query, silence=seconds + SLACK) as response:
                    async for line in lines(response, LONGEST_EVENT):
                        event = event_of(line)
                        if event["type"] == "ERROR":
                            raise of_status(event["object"], 500)
                        trouble.over()
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
                if asyncio.get_running_loop().time() < began + 1:
                    await trouble.wait(Unreachable(f"{self.access.server} ends each watch at once"))
                else:
                    trouble.over()
            except ApiError as error:
                await trouble.wait(error)

    async def log(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        since_time: str | None = None,
        follow: bool = False,
        tail_lines: int | None = None,
    ) -> AsyncGenerator[tuple[int, str], None]:
        """Lines of a container, each with its time in nanoseconds since 1970 (0: a remark of the node's, not a line).

        Ends with the container, but also when the connection broke or was silent for long: whoever follows looks at the
        pod and, if it still runs, asks again with ``since_time``, skipping what is not later than the last line.

        :param since_time: as :func:`.times.rfc3339` writes it; the server knows whole seconds only.
        :raises NotStarted: while the container waits to start.
        :raises ApiError: 404 when there is no such pod.
        """
        query = {"timestamps": "true", "follow": str(follow).lower(), "container": container, "sinceTime": since_time}
        query["tailLines"] = None if tail_lines is None else str(tail_lines)
        async with AsyncExitStack() as stack:

            async def opened() -> aiohttp.ClientResponse:
                sent = self._send("GET", f"{pods(namespace, pod)}/log", query, silence=QUIET if follow else 60)
                return await stack.enter_async_context(sent)

            response = await self._again(opened, read=True)
            try:
                async for line in lines(response, LONGEST_LINE, rest=True):
                    yield log_line(line)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                logger.debug("the log of pod %s broke off: %s", pod, type(error).__name__)

    async def _read(
        self, method: str, path: str, query: Mapping[str, str | None] | None = None, body: Any = None
    ) -> Object:
        answer: Object = await self._again(lambda: self._once(method, path, query, body, "application/json"), read=True)
        return answer

    async def _change(
        self, method: str, path: str, query: Mapping[str, str | None] | None, body: Any, kind: str = "application/json"
    ) -> Object:
        answer: Object = await self._again(lambda: self._once(method, path, query, body, kind), read=False)
        return answer

    async def _again(self, attempt: Callable[[], Awaitable[Any]], *, read: bool) -> Any:
        loop, trouble = asyncio.get_running_loop(), Trouble(self.patience)
        known_by = loop.time() + NEW
        while True:
            try:
                answer = await attempt()
            except ApiError as error:
                if self._is_new_to(error) and loop.time() < known_by:
                    await asyncio.sleep(0.5)
                    continue
                refused = error.status in (429, 503) and error.retry_after is not None
                if not (read or refused or (isinstance(error, Unreachable) and error.unsent)):
                    raise
                await trouble.wait(error)
            else:
                trouble.over()
                _let_in.add(self.access.key)
                return answer

    def _is_new_to(self, error: ApiError) -> bool:
        """Whether a server refuses us that has just started and has not read its roles yet; nothing is done then."""
        return self.access.key in _let_in and error.status == 403 and "forbidden: User" in error.message

    async def _once(self, method: str, path: str, query: Mapping[str, str | None] | None, body: Any, kind: str) -> Any:
        if self._slots is None:
            self._slots = asyncio.Semaphore(AT_ONCE)
        async with self._slots, self._send(method, path, query, body=body, kind=kind) as response:
            content = await response.read()
            try:
                return json.loads(content)
            except ValueError:
                said = content[:200].decode(errors="replace")
                raise ApiError(502, "NoJson", f"{path}: not JSON but {said!r}") from None

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None = None,
        *,
        body: Any = None,
        kind: str = "application/json",
        silence: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request and its good answer.

        :param silence: the answer is a stream, which may be silent for so many seconds.
        """
        asked = urlencode({name: value for name, value in (query or {}).items() if value})
        url = yarl.URL(f"{self.access.server}{path}{'?' if asked else ''}{asked}", encoded=True)
        short = min(30.0, max(1.0, self.patience))
        total = short if silence is None else None
        timeout = aiohttp.ClientTimeout(total=total, connect=min(10.0, short), sock_read=silence)
        try:
            for last in (False, True):
                async with self._opened().request(
                    method,
                    url,
                    data=None if body is None else json.dumps(body).encode(),
                    headers=await self._headers(kind if body is not None else None),
                    timeout=timeout,
                    allow_redirects=False,  # the token is for this server only
                    proxy=self.access.proxy,
                    server_hostname=self.access.server_name,
                ) as response:
                    if response.status == 401 and not last:
                        self.access.forget()
                        continue
                    if response.status >= 300:
                        raise await self._refusal(response)
                    if silence is not None and self.access.keepalive:
                        keep_alive(response)
                    yield response
                    return
        except NoCredentials as error:
            raise ApiError(401, "Unauthorized", f"{self.access.source}: {error}") from None
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            # Not chained: an error of aiohttp may hold the request with its headers.
            raise self._no_answer(error) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("this client is closed")
        if self._session is None:
            # No limit of connections, or watches and logs would keep the short requests out.
            connector = aiohttp.TCPConnector(ssl=self.access.tls(), limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _headers(self, kind: str | None) -> tuple[tuple[str, str], ...]:
        token = await self.access.token()
        wanted = {
            "Accept": "application/json",
            "User-Agent": f"airflow-provider-dask/{__version__}",
            "Content-Type": kind,
            "Authorization": f"Bearer {token}" if token else None,
        }
        return (*((name, value) for name, value in wanted.items() if value), *self.access.headers)

    async def _refusal(self, response: aiohttp.ClientResponse) -> ApiError:
        content = await response.content.read(64 * 1024)
        status: Object = {}
        with suppress(ValueError):
            status = json.loads(content)
        if not isinstance(status, dict) or status.get("kind") != "Status":
            said = content[:300].decode(errors="replace").strip()
            status = {"reason": response.reason, "message": f"{response.url.path}: {said}"}
        if response.status == 401:
            server = f"{self.access.server} does not accept the credentials of {self.access.source}"
            status["message"] = f"{server}: {status.get('message') or 'Unauthorized'}"
        if (after := response.headers.get("Retry-After", "")).isdecimal():
            status["details"] = {"retryAfterSeconds": int(after), **(status.get("details") or {})}
        return of_status(status, response.status)

    def _no_answer(self, error: Exception) -> Unreachable:
        server = self.access.server
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            help_ = "its authority belongs into certificate-authority-data of the kubeconfig"
            return Untrusted(f"the certificate of {server} is not trusted ({reason}); {help_}", unsent=True)
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        number = getattr(cause, "errno", None) or 0  # asyncio's own text only says that it could not
        reason = os.strerror(number) if number > 0 else getattr(cause, "strerror", None) or str(cause)
        if isinstance(error, asyncio.TimeoutError):
            reason = "no answer in time"
        reason = reason or type(cause).__name__
        message = f"the Kubernetes API at {server} cannot be reached: {reason}"
        return Unreachable(message, unsent=isinstance(error, UNSENT))
