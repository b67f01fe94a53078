"""What the Airflow side may and must do in a namespace; the Role that is published grants exactly this."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from dask_provider.errors import ClusterFailed
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError

#: API group, resource, verbs
Right = tuple[str, str, tuple[str, ...]]

NEEDED: tuple[Right, ...] = (
    ("batch", "jobs", ("get", "list", "watch", "create", "patch", "delete")),
    ("kubernetes.dask.org", "daskclusters", ("get", "create", "patch")),
    ("kubernetes.dask.org", "daskworkergroups", ("get", "create", "patch", "delete")),
    ("kubernetes.dask.org", "daskautoscalers", ("get", "create", "patch", "delete")),
    ("", "configmaps", ("create",)),
    ("", "secrets", ("create",)),
    ("", "pods", ("get", "list", "watch", "patch")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
    ("", "services", ("list", "patch")),
    ("", "services/proxy", ("get",)),
    ("apps", "deployments", ("list",)),
)
#: what is done without where it lacks
OPTIONAL: tuple[Right, ...] = (("", "resourcequotas", ("list",)),)
#: what jobs beside a Dask cluster need that somebody else made
EXISTING: tuple[Right, ...] = (
    ("batch", "jobs", ("get", "list", "watch", "create", "patch", "delete")),
    ("kubernetes.dask.org", "daskclusters", ("get",)),
    ("", "configmaps", ("create",)),
    ("", "pods", ("get", "list", "watch")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
    ("", "services", ("list",)),
    ("", "services/proxy", ("get",)),
    ("apps", "deployments", ("list",)),
)
#: what plain jobs need of it, where there are no Dask clusters
PLAIN = (
    ("batch", "jobs", ("get", "list", "watch", "create", "patch", "delete")),
    ("", "pods", ("get", "list", "watch")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)


def role_rules(needed: Iterable[Right] = NEEDED + OPTIONAL) -> list[dict[str, Any]]:
    """The rules of the Role."""
    return [{"apiGroups": [group], "resources": [kind], "verbs": list(verbs)} for group, kind, verbs in needed]


async def check_rights(client: Client, namespace: str, needed: Iterable[Right] = NEEDED) -> set[tuple[str, str, str]]:
    """Ask the API server before anything is created.

    :returns: what is granted of :data:`OPTIONAL`, as far as the server lists it.
    :raises ClusterFailed: naming every right that is missing.
    """
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    try:
        status = (await client.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review))["status"]
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        status = {"resourceRules": []}
    # The list may be incomplete (clouds that decide by webhook): what is not on it is asked for one by one.
    open_questions = list(not_granted(status["resourceRules"], needed))
    answers = await asyncio.gather(
        *(
            client.may(verb, group, kind.partition("/")[0], namespace, kind.partition("/")[2])
            for group, kind, verb in open_questions
        )
    )
    missing = [
        f"{verb} {kind}{f'.{group}' if group else ''}"
        for (group, kind, verb), (allowed, _) in zip(open_questions, answers, strict=True)
        if not allowed
    ]
    if missing:
        raise ClusterFailed(
            f"the account that Airflow uses lacks rights in namespace {namespace}: {', '.join(missing)}; "
            "bind it to the Role of deploy/kubernetes"
        )
    wanted = {(group, kind, verb) for group, kind, verbs in OPTIONAL for verb in verbs}
    return wanted - set(not_granted(status["resourceRules"], OPTIONAL))


def not_granted(rules: Iterable[Mapping[str, Any]], needed: Iterable[Right] = NEEDED) -> Iterable[tuple[str, str, str]]:
    """The needed (group, resource, verb) that none of the rules grants."""
    rules = [rule for rule in rules if not rule.get("resourceNames")]

    def grants(rule: Mapping[str, Any], group: str, kind: str, verb: str) -> bool:
        pairs = (("apiGroups", group), ("resources", kind), ("verbs", verb))
        return all({"*", wanted} & set(rule.get(field) or ()) for field, wanted in pairs)

    for group, kind, verbs in needed:
        for verb in verbs:
            if not any(grants(rule, group, kind, verb) for rule in rules):
                yield group, kind, verb
