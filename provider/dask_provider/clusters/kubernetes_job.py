"""A program that runs as a Job on Kubernetes, without a Dask cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from dask_provider.clusters import kubernetes_fields as fields
from dask_provider.clusters.checks import check_list, check_mapping, each
from dask_provider.clusters.kubernetes import DEFAULT_MEMORY, with_defaults
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template, parse_seconds

#: name of the container, where ``spec_schema`` gives it none
CONTAINER = "job"
#: seconds that an ended job stays at least: Airflow, or its connection to Kubernetes, may be away for a moment
LEAST_KEPT = 60.0
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_NAME = "a name such as preprocess-data, letters, digits and -"


@dataclass(frozen=True, kw_only=True, repr=False)
class KubernetesJob:
    """What to run, where, and for how long at most; the fields of ``KubernetesJobOperator``, which describes them.

    Text fields may hold Jinja; they are checked once they are rendered.

    :raises InvalidInput: for a value that cannot be used.
    """

    image: str | None = None
    cmd: Sequence[str] = ()
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    conn_id: str | None = None
    namespace: str | None = None
    job_resources: Mapping[str, Any] = field(default_factory=dict)
    image_pull_policy: str | None = None
    image_pull_secrets: Sequence[str] = ()
    service_account: str | None = None
    env_from: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = ()
    volume_mounts: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    spec_schema: Mapping[str, Any] = field(default_factory=dict)
    active_deadline_seconds: float | str | timedelta = 86400
    keep_seconds: float | str | timedelta = 3600

    def __post_init__(self) -> None:
        self._check_schema()
        if self.image is None and not self.container.get("image"):
            raise InvalidInput(_field("image"), None, "an image, here or in the container of spec_schema")
        for name, check in (
            ("namespace", fields.check_name),
            ("image", fields.check_image),
            ("service_account", fields.check_object_name),
        ):
            if getattr(self, name) is not None:
                check(_field(name), getattr(self, name))
        if self.name is not None and not is_template(self.name) and not any(map(str.isalnum, str(self.name))):
            raise InvalidInput(_field("name"), self.name, _NAME)
        policy = self.image_pull_policy
        if policy is not None and policy not in _PULL_POLICIES and not is_template(policy):
            raise InvalidInput(_field("image_pull_policy"), policy, f"one of {', '.join(_PULL_POLICIES)}")
        for name in ("cmd", "arguments"):
            for item in check_list(_field(name), getattr(self, name)):
                if not isinstance(item, str):
                    raise InvalidInput(_field(name), item, "a list of texts, one a word of the command line")
        for key, value in check_mapping(_field("env"), self.env).items():
            if not isinstance(value, str):
                raise InvalidInput(_field("env"), {key: value}, "text values (quoted: 1 and true are no text)")
        self._check_pod()
        self._check_times()

    def _check_pod(self) -> None:
        each(fields.check_object_name, _field("image_pull_secrets"), self.image_pull_secrets)
        fields.check_env_from(_field("env_from"), self.env_from)
        fields.check_labels(_field("node_selector"), self.node_selector)
        fields.check_tolerations(_field("tolerations"), self.tolerations)
        fields.check_labels(_field("labels"), self.labels)
        fields.check_labels(_field("annotations"), self.annotations, annotations=True)
        for name in ("labels", "annotations"):
            if taken := [key for key in getattr(self, name) if key.startswith("dask-provider/")]:
                raise InvalidInput(_field(name), taken[0], "keys that the provider does not use")
        if not self.spec_schema:  # else a mount may belong to a volume in there
            mounts = _field("volume_mounts"), self.volume_mounts
            fields.check_volumes(_field("volumes"), self.volumes, *mounts, {})
        fields.parse_resources(_field("job_resources"), self.job_resources)

    def _check_schema(self) -> None:
        name, schema = _field("spec_schema"), check_mapping(_field("spec_schema"), self.spec_schema)
        containers = schema.get("containers", [{}])
        if not isinstance(containers, list | tuple) or len(containers) != 1 or not isinstance(containers[0], Mapping):
            allowed = "one container; helpers beside it belong to initContainers, with restartPolicy: Always"
            raise InvalidInput(f"{name}['containers']", containers, allowed)
        if schema.get("restartPolicy", "Never") != "Never":
            raise InvalidInput(
                f"{name}['restartPolicy']", schema["restartPolicy"], "Never, or nothing: Airflow retries"
            )

    def _check_times(self) -> None:
        for name, least in (("active_deadline_seconds", 0.0), ("keep_seconds", LEAST_KEPT)):
            value = getattr(self, name)
            if not is_template(value) and parse_seconds(_field(name), value) < least:
                allowed = f"at least {LEAST_KEPT:g} s: a job that is gone tells nobody how it ended"
                raise InvalidInput(_field(name), value, allowed)

    @property
    def container(self) -> Mapping[str, Any]:
        """The container that ``spec_schema`` describes."""
        described: Mapping[str, Any] = (self.spec_schema.get("containers") or [{}])[0]
        return described

    @property
    def quantities(self) -> fields.Resources | None:
        """Requests and limits; ``None``: those of ``spec_schema``."""
        if not self.job_resources and self.container.get("resources"):
            return None
        return with_defaults(_field("job_resources"), self.job_resources, 1, DEFAULT_MEMORY)

    @property
    def deadline(self) -> int:
        """``active_deadline_seconds`` as Kubernetes takes it."""
        return max(1, round(parse_seconds(_field("active_deadline_seconds"), self.active_deadline_seconds)))

    @property
    def keep(self) -> int:
        """``keep_seconds`` as Kubernetes takes it."""
        return round(parse_seconds(_field("keep_seconds"), self.keep_seconds))

    def __repr__(self) -> str:
        return f"KubernetesJob(image={self.image or self.container.get('image')!r}, cmd={list(self.cmd)!r})"


def _field(name: str) -> str:
    return f"KubernetesJobOperator.{name}"
