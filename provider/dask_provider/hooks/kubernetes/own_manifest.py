"""What a user wrote of a DaskCluster by hand: read, checked, merged. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from dask_provider.clusters.kubernetes_fields import check_labels
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.objects import Object
from dask_provider.hooks.kubernetes.pods import COMM, HTTP
from dask_provider.units import is_template

MANIFEST, OVERRIDES = "KubernetesCluster.manifest", "KubernetesCluster.manifest_overrides"
#: the operator's own rule: 63 characters, without those of "-scheduler"
_NAME = re.compile(r"(?=.{1,53}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def parse_manifest(text: str) -> Object:
    """The DaskCluster in YAML (or JSON) text.

    :raises InvalidInput: naming ``KubernetesCluster.manifest`` and line and cause, for text that is no YAML, another
        kind, a name that the operator refuses, and a service by which the operator does not find the scheduler.
    """
    made = _one_document(text)
    for key, wanted in (("apiVersion", "kubernetes.dask.org/v1"), ("kind", "DaskCluster")):
        if made.get(key) != wanted:
            raise InvalidInput(MANIFEST, {key: made.get(key)}, f"{key}: {wanted}")
    if unknown := sorted(set(made) - {"apiVersion", "kind", "metadata", "spec"}, key=str):
        raise InvalidInput(MANIFEST, unknown[0], "the keys apiVersion, kind, metadata, spec")
    metadata = made.get("metadata") or {}
    name = metadata.get("name") if isinstance(metadata, Mapping) else metadata
    if not isinstance(metadata, Mapping) or (name is not None and not _NAME.fullmatch(str(name))):
        raise InvalidInput(
            MANIFEST,
            {"metadata": metadata} if not isinstance(metadata, Mapping) else {"metadata.name": name},
            'no name, or at most 53 of a-z, 0-9 and "-" (the owner\'s name takes its place)',
        )
    check_cluster(made, MANIFEST)
    return made


def check_content(text: str) -> None:
    """What was read from a file or URI: nobody renders templates in there.

    :raises InvalidInput: naming the line that holds one.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if is_template(line) and not line.lstrip().startswith("#"):
            allowed = f"no Jinja in a file (line {number}): only text is rendered, as of Path(...).read_text()"
            raise InvalidInput(MANIFEST, line.strip(), allowed)


def _one_document(text: str) -> Object:
    import yaml  # type: ignore[import-untyped]  # here: a spec without a manifest has no use for it

    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = text.splitlines()[mark.line : mark.line + 1] if mark else []
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        # The context is where the thing began that is broken: most often the mistake is the indentation in between.
        began = f"; {error.context} that begins in line {error.context_mark.line + 1}" if error.context_mark else ""
        hint = ": compare the indentation" if "block" in str(error.context) else ""
        cause = f"{where}{error.problem}{began}{hint}"
        raise InvalidInput(MANIFEST, "".join(line).strip(), f"valid YAML; {cause}") from None
    except yaml.YAMLError as error:
        raise InvalidInput(MANIFEST, "", f"valid YAML; {error}") from None
    if len(documents) != 1 or not isinstance(documents[0], dict):
        what = f"{len(documents)} documents" if len(documents) != 1 else documents[0]
        raise InvalidInput(MANIFEST, what, "one document, a DaskCluster")
    return documents[0]


def check_cluster(made: Mapping[str, Any], field: str) -> None:
    """What must be right for the operator to make a cluster that we can use.

    :param field: what the user has to correct.
    :raises InvalidInput: naming the path inside the manifest.
    """
    spec = _mapping(field, "spec", made.get("spec"), ("scheduler", "worker", "idleTimeout"))
    if spec.get("idleTimeout"):
        # The operator looks at tasks only, not at clients; the lease knows that a job at work is work.
        raise InvalidInput(field, {"spec.idleTimeout": spec["idleTimeout"]}, "idle_timeout of the spec instead")
    scheduler = _mapping(field, "spec.scheduler", spec.get("scheduler"), ("spec", "service", "metadata"))
    worker = _mapping(field, "spec.worker", spec.get("worker"), ("spec", "replicas", "metadata"))
    for path, part in (("spec.scheduler", scheduler), ("spec.worker", worker)):
        containers = _mapping(field, f"{path}.spec", part.get("spec")).get("containers")
        named = isinstance(containers, list) and containers and all(isinstance(item, Mapping) for item in containers)
        if not named or not all(item.get("name") and item.get("image") for item in containers or ()):
            raise InvalidInput(field, {f"{path}.spec.containers": containers}, "a list of containers with name, image")
        _check_volumes(field, f"{path}.spec", part["spec"])
        _check_metadata(field, f"{path}.metadata", part.get("metadata"))
    _check_metadata(field, "metadata", made.get("metadata"))
    check_service(field, scheduler)


def _check_volumes(field: str, path: str, pod: Mapping[str, Any]) -> None:
    """Kubernetes takes a volume that nothing mounts; the program then writes into its container, and it is lost."""
    used = {
        mount.get("name")
        for container in (*_mappings(pod.get("initContainers")), *_mappings(pod["containers"]))
        for kind in ("volumeMounts", "volumeDevices")
        for mount in _mappings(container.get(kind))
    }
    for volume in _mappings(pod.get("volumes")):
        if volume.get("name") not in used:
            allowed = "volumes that a container of the same pod has in its volumeMounts"
            raise InvalidInput(field, {f"{path}.volumes": volume.get("name")}, allowed)


def _check_metadata(field: str, path: str, metadata: object) -> None:
    known = _mapping(field, path, metadata or {})
    check_labels(f"{field}: {path}.labels", known.get("labels") or {})
    check_labels(f"{field}: {path}.annotations", known.get("annotations") or {}, annotations=True)


def check_service(field: str, scheduler: Mapping[str, Any]) -> None:
    """That operator and we find the scheduler by its service.

    :param field: what the user has to correct.
    :param scheduler: ``spec.scheduler`` of a DaskCluster.
    :raises InvalidInput: naming the path inside the manifest.
    """
    path = "spec.scheduler.service"
    service = _mapping(field, path, scheduler.get("service"))
    ports = {port.get("name"): port for port in service.get("ports") or [] if isinstance(port, Mapping)}
    main = main_container(scheduler["spec"], "scheduler")
    open_ports = {port.get("name") for port in main.get("ports") or []}
    for number, name in (COMM, HTTP):
        port = ports.get(name)
        if port is None:
            allowed = f"a port named {name}: the operator finds the scheduler by it"
            raise InvalidInput(field, {f"{path}.ports": sorted(map(str, ports))}, allowed)
        if port.get("port") != number:
            raise InvalidInput(
                field, {f"{path}.ports[{name}].port": port.get("port")}, f"{number} (targetPort is free)"
            )
        target = port.get("targetPort", number)
        if isinstance(target, str) and target not in open_ports:
            allowed = (
                f"a port of the scheduler's container: {', '.join(sorted(map(str, open_ports))) or 'it names none'}"
            )
            raise InvalidInput(field, {f"{path}.ports[{name}].targetPort": target}, allowed)


def main_container(pod: Mapping[str, Any], name: str) -> Any:
    """The container of that name, or the first."""
    containers = pod["containers"]
    return next((item for item in containers if item.get("name") == name), containers[0])


def merged(base: Any, over: Any) -> Any:
    """``over`` laid over ``base``: see ``KubernetesCluster.manifest_overrides``."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        kept = {name: copy.deepcopy(value) for name, value in base.items() if name not in over}
        laid = {name: merged(base.get(name), value) for name, value in over.items() if value is not None}
        return {**kept, **laid}
    if _named(base) and _named(over) and over:
        names = [item["name"] for item in base]
        changes = {item["name"]: item for item in over}
        added = [merged({}, item) for item in over if item["name"] not in names]
        return [merged(item, changes.get(item["name"], {})) for item in base] + added
    if isinstance(over, Mapping):
        return merged({}, over)
    return list(over) if isinstance(over, tuple) else copy.deepcopy(over)


def _mappings(value: object) -> list[Mapping[str, Any]]:
    """What can be looked into; all else is left to the API server."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _named(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, Mapping) and "name" in item for item in value)


def _mapping(field: str, path: str, value: object, known: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(
            field, {path: value}, " ".join(("a mapping", *(("with", ", ".join(known)) if known else ())))
        )
    if known and (unknown := sorted(set(value) - set(known), key=str)):
        raise InvalidInput(field, f"{path}.{unknown[0]}", f"the keys {', '.join(known)}")
    return value
