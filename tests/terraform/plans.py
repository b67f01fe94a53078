"""What ``terraform test`` says, and the plan of a whole environment in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Resource:
    """:param address: such as ``module.composer.google_composer_environment.this``.
    :param values: its attributes; those that only Google knows are missing.
    """

    address: str
    type: str
    values: dict[str, Any]

    def block(self, name: str) -> dict[str, Any]:
        """The only block of this name, or nothing."""
        blocks = self.values.get(name) or [{}]
        assert len(blocks) == 1
        return dict(blocks[0])


@dataclass(frozen=True)
class Plan:
    resources: tuple[Resource, ...]
    outputs: frozenset[str]

    def of(self, *types: str) -> list[Resource]:
        return [resource for resource in self.resources if resource.type in types]

    def one(self, address: str) -> Resource:
        (found,) = [resource for resource in self.resources if resource.address == address]
        return found

    def grants(self, member: str) -> Iterator[tuple[Resource, str]]:
        """What a member may do where: each grant and its role."""
        for resource in self.resources:
            if resource.values.get("member") == member:
                yield resource, resource.values["role"]


@dataclass(frozen=True)
class Outcome:
    """:param states: of each run: file and name to ``pass``, ``fail``, ``error`` or ``skip``.
    :param plans: what each run planned, where it was asked for with ``-verbose``.
    :param said: errors, in words.
    """

    states: dict[str, str]
    plans: dict[str, Plan]
    said: list[str]


def read_outcome(output: str) -> Outcome:
    """From ``terraform test -json``."""
    states: dict[str, str] = {}
    plans: dict[str, Plan] = {}
    said = []
    for line in output.splitlines():
        message = json.loads(line)
        run = f"{message.get('@testfile', '')} {message.get('@testrun', '')}"
        if message["type"] == "test_run" and message["test_run"].get("progress") == "complete":
            states[run] = message["test_run"]["status"]
        elif message["type"] == "test_plan":
            plans[run] = _plan(message["test_plan"])
        elif message["type"] == "diagnostic" and message["diagnostic"]["severity"] == "error":
            said.append(f"{run}: {message['diagnostic']['summary']}: {message['diagnostic'].get('detail', '')}")
    return Outcome(states, plans, said)


def _plan(record: dict[str, Any]) -> Plan:
    resources = tuple(
        Resource(change["address"], change["type"], change["change"]["after"])
        for change in record["resource_changes"]
        if change["mode"] == "managed"
    )
    return Plan(resources, frozenset(record.get("output_changes", {})))
