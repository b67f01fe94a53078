"""What Dataproc accepts: names, labels, machines, disks. Each check leaves what is still a template alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask_provider.clusters.checks import check_mapping, check_text, each
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template, parse_count

#: spans that Dataproc takes, in seconds
IDLE_SPAN, LIFETIME_SPAN = (300.0, 14 * 86400.0), (600.0, 14 * 86400.0)
DISK_TYPES = ("pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced")
PREEMPTIBILITY = ("SPOT", "PREEMPTIBLE", "NON_PREEMPTIBLE")
#: files of daemons that a property may go to; any of them may end in ``-env``
_PROPERTY = re.compile(
    r"(capacity-scheduler|core|dataproc|distcp|hdfs|hive|mapred|pig|spark|yarn|zookeeper)(-env|-log4j)?:[\w.-]+"
)
#: of a job, which we say ourselves: its driver is our runtime, on the master, in Dask's environment
OUR_JOB_PROPERTIES = ("spark.submit.deployMode", "spark.pyspark.python", "spark.pyspark.driver.python")
_JOB_PROPERTY = re.compile(r"spark\.[\w.-]+")
_PROJECT = re.compile(r"(?:[a-z][-a-z0-9.]{0,60}:)?[a-z][-a-z0-9]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
_IMAGE_VERSION = re.compile(r"\d+\.\d+(\.\d+)?(-RC\d+)?(-(debian|ubuntu|rocky)\d+)?")
_MACHINE_TYPE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_CPUS = re.compile(r"[a-z]\w*-(?:standard|highmem|highcpu|ultramem|megamem|custom)-(\d+)(?:-\d+)?(?:-lssd|-ext)?")
_LABEL_KEY, _LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
_TAG = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]")
_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_KMS_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
_SUBNETWORK = re.compile(
    r"(https://[^\s]+/)?(projects/[^/]+/regions/[^/]+/subnetworks/)?[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
)
_SCRIPT = re.compile(r"gs://[^/\s]+/\S+[^/\s]")
_POLICY_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{1,48}[A-Za-z0-9]"
_POLICY = re.compile(rf"((https://\S+/)?projects/[^/]+/(regions|locations)/[^/]+/autoscalingPolicies/)?{_POLICY_ID}")
_PATH = re.compile(r"/[^\s:]*[^\s:/]")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?")

#: what a text field has to look like, and how that is said
TEXTS = {
    "project_id": (_PROJECT, 'a project id like "acme-data-1", not its number or title'),
    "region": (_REGION, 'a region like "europe-west1"'),
    "zone": (_ZONE, 'a zone like "europe-west1-b"'),
    "image_version": (_IMAGE_VERSION, 'an image version like "2.2-debian12" or "2.2.63-debian12"'),
    "subnetwork": (_SUBNETWORK, 'a subnetwork: its name or "projects/P/regions/R/subnetworks/NAME"'),
    "service_account": (_ACCOUNT, "the e-mail address of a service account"),
    "kms_key": (_KMS_KEY, '"projects/P/locations/L/keyRings/R/cryptoKeys/K"'),
    "autoscaling_policy": (_POLICY, 'a policy: its name or "projects/P/locations/R/autoscalingPolicies/NAME"'),
    "staging_bucket": (_BUCKET, 'the name of a bucket, without "gs://"'),
    "temp_bucket": (_BUCKET, 'the name of a bucket, without "gs://"'),
}


@dataclass(frozen=True)
class Machines:
    """The machines of a cluster's masters or workers.

    :param machine_type: such as ``n2-standard-4``.
    :param disk_gb: size of the boot disk in GB.
    :param disk_type: ``pd-standard``, ``pd-balanced``, ``pd-ssd`` or ``hyperdisk-balanced``.
    :param local_ssds: local SSDs of 375 GB; workers spill to them.
    """

    machine_type: str = "n2-standard-4"
    disk_gb: int | str = 100
    disk_type: str = "pd-balanced"
    local_ssds: int | str = 0

    def __post_init__(self) -> None:
        allowed = 'a machine type like "n2-standard-4"'
        check_text("Machines.machine_type", self.machine_type, _MACHINE_TYPE, allowed)
        for name, least in (("disk_gb", 30), ("local_ssds", 0)):
            if not is_template(getattr(self, name)):
                parse_count(f"Machines.{name}", getattr(self, name), least=least)
        if not is_template(self.disk_type) and self.disk_type not in DISK_TYPES:
            raise InvalidInput("Machines.disk_type", self.disk_type, f"one of {', '.join(DISK_TYPES)}")

    @property
    def cpus(self) -> int | None:
        """Virtual CPUs, where the type's name says how many."""
        match = _CPUS.fullmatch(self.machine_type)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class NfsMount:
    """A file system that every node mounts, such as a Filestore.

    :param server: its address.
    :param export: the path there: ``/`` and the name of the share, for a Filestore.
    :param mount_point: where the nodes have it.
    """

    server: str
    export: str
    mount_point: str = "/mnt/shared"

    def __post_init__(self) -> None:
        check_text("NfsMount.server", self.server, _HOST, "a host name or address")
        for name in ("export", "mount_point"):
            allowed = "an absolute path without blanks and colons"
            check_text(f"NfsMount.{name}", getattr(self, name), _PATH, allowed)


def machines(field: str, value: object) -> Machines:
    """``"n2-standard-4"``, a mapping or :class:`Machines` -> the latter.

    :raises InvalidInput: for anything else.
    """
    if isinstance(value, Machines):
        return value
    if isinstance(value, str):
        given: Mapping[str, Any] = {"machine_type": value}
    else:
        given = check_mapping(field, value)
    known = ("machine_type", "disk_gb", "disk_type", "local_ssds")
    if not set(given) <= set(known):
        raise InvalidInput(field, dict(given), f"a machine type, or Machines({', '.join(known)})")
    try:
        return Machines(**given)
    except InvalidInput as error:
        raise InvalidInput(f"{field}.{error.field.partition('.')[2]}", error.value, error.allowed) from None


def check_labels(field: str, value: object) -> None:
    """Labels of Google: keys and values in lower case, at most 63 characters."""
    for key, text in check_mapping(field, value).items():
        allowed = 'keys and values of at most 63 of a-z, 0-9, "_" and "-", keys beginning with a letter'
        check_text(field, key, _LABEL_KEY, allowed)
        check_text(field, text, _LABEL_VALUE, allowed)
        if key.startswith(("dask-provider", "goog-")):
            raise InvalidInput(field, key, 'keys that begin neither with "dask-provider" nor with "goog-"')


def check_tags(field: str, value: object) -> None:
    """Network tags."""
    each(lambda name, tag: check_text(name, tag, _TAG, 'tags of at most 63 of a-z, 0-9 and "-"'), field, value)


def check_scripts(field: str, value: object) -> None:
    """URIs of initialization actions."""
    each(lambda name, uri: check_text(name, uri, _SCRIPT, 'URIs like "gs://bucket/setup.sh"'), field, value)


def check_properties(field: str, value: object) -> None:
    """Properties of daemons: ``{"spark:spark.driver.memory": "8g"}``."""
    for key, text in check_mapping(field, value).items():
        allowed = 'keys like "spark:spark.driver.memory": one of Dataproc\'s files, a colon, a name (not "dask:")'
        check_text(field, key, _PROPERTY, allowed)
        if not isinstance(text, str):
            raise InvalidInput(field, {key: text}, 'text as the value (quoted: "true", "8")')


def check_job_properties(field: str, value: object) -> None:
    """Properties of Spark for a job: ``{"spark.driver.memory": "8g"}``."""
    for key, text in check_mapping(field, value).items():
        check_text(field, key, _JOB_PROPERTY, 'keys like "spark.driver.memory", without the "spark:" of properties')
        if key in OUR_JOB_PROPERTIES:
            raise InvalidInput(field, key, f"others than {', '.join(OUR_JOB_PROPERTIES)}: those are set for every job")
        if not isinstance(text, str):
            raise InvalidInput(field, {key: text}, 'text as the value (quoted: "true", "8")')


def check_span(field: str, given: object, seconds: float, span: tuple[float, float]) -> None:
    """:raises InvalidInput: for a time that Dataproc does not take."""
    if not span[0] <= seconds <= span[1]:
        least, most = f"{span[0] / 60:.0f} min", f"{span[1] / 86400:.0f} days"
        raise InvalidInput(field, given, f"{least} to {most}: Dataproc takes no other")


def check_amount(field: str, value: object) -> None:
    """:raises InvalidInput: for what is no amount of money."""
    try:
        good = isinstance(value, int | float | str) and not isinstance(value, bool) and 0 < float(value) < math.inf
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(field, value, "a number above 0, or None")
