"""One request: where it goes, what it asks, and whether it was answered before."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.servers.dataproc.errors import invalid
from tests.servers.dataproc.validation import check_request_id
from tests.servers.dataproc.world import OperationEntry, World


@dataclass
class Call:
    """:param method: ``clusters.create``.
    :param place: ``regions`` or ``locations``, as the path said it.
    :param name: of the resource, or empty.
    :param query: parameters by their JSON names.
    :param number_enums: the client wants enums as numbers in the answer, as Google's own clients do.
    """

    method: str
    project: str
    region: str
    place: str
    name: str
    query: dict[str, str]
    body: bytes
    number_enums: bool

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/{self.place}/{self.region}"

    @property
    def resource(self) -> str:
        return f"projects/{self.project}/regions/{self.region}/{self.method.partition('.')[0]}/{self.name}"

    def json(self) -> dict[str, Any]:
        try:
            content = json.loads(self.body or b"{}")
        except ValueError as error:
            raise invalid(f"Invalid JSON payload received. {error}") from None
        if not isinstance(content, dict):
            raise invalid("Invalid JSON payload received. Expected an object.")
        return content

    def mask(self) -> list[str]:
        """The paths of ``updateMask``, in snake case."""
        paths = [path for path in self.query.get("updateMask", "").split(",") if path]
        return [re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", path) for path in paths]

    def duration(self, name: str) -> float:
        text = self.query.get(name, "") or "0s"
        if not re.fullmatch(r"\d+(\.\d{1,9})?s", text):
            raise invalid(f"{name}: '{text}' is no duration; it must end with 's'.")
        return float(text[:-1])

    def answered(self, world: World) -> str:
        """What an earlier request with the same id led to, or nothing.

        :raises ApiError: INVALID_ARGUMENT: the id is none.
        """
        request_id = self.query.get("requestId", "")
        check_request_id(request_id)
        return world.requests.get(self._key(request_id), "") if request_id else ""

    def note(self, world: World, made: OperationEntry) -> OperationEntry:
        """Remember what this request led to."""
        self.remember(world, made.name)
        return made

    def remember(self, world: World, name: str) -> None:
        if request_id := self.query.get("requestId", ""):
            world.save_request(self._key(request_id), name)

    def _key(self, request_id: str) -> str:
        return f"{self.project}/{self.region}/{self.method}/{request_id}"
