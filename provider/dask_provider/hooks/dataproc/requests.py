"""What is asked of Dataproc, built of spec and owner. Pure.

https://cloud.google.com/dataproc/docs/reference/rest/v1/projects.regions.clusters
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import Machines
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc import yarn
from dask_provider.owner import Attempt, Owner

Object = dict[str, Any]

#: labels that we put on clusters and jobs
INSTANCE, SPEC = "dask-provider-instance", "dask-provider-spec"
ATTEMPT, STARTED = "dask-provider-attempt", "dask-provider-started"
#: parts of a second; a power of two, so that a start comes back as it was: no try may seem to overtake itself
TICKS = 2**22
#: metadata of the machines that says whose the cluster is, as labels cannot hold it
OWNER = "dask-provider-owner"
#: metadata with what a handle needs beside what Dataproc itself tells
HANDLE = "dask-provider-handle"
#: metadata with the Spark properties of its jobs
JOB_PROPERTIES = "dask-provider-job-properties"
#: label of an elastic cluster: its least and most workers, which the master reads again and again
LIMITS = "dask-provider-workers"
#: Google's own initialization action
PUBLIC_ACTION = "gs://goog-dataproc-initialization-actions-{region}/dask/dask.sh"
#: labels of a cluster: Dataproc takes 32 on a job, which has the user's and six of ours
MOST_LABELS = 30
GOOGLES_PYTHON = "/opt/conda/miniconda3/envs/dask/bin/python"
OUR_PYTHON = "/opt/dask/bin/python"
_DURATION = re.compile(r"\d+(\.\d+)?s")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def cluster_request(
    spec: DataprocCluster,
    owner: Owner,
    attempt: Attempt,
    *,
    project_id: str,
    scripts: Mapping[str, str],
    bucket: str,
    versions: Mapping[str, str],
) -> Object:
    """The body of ``clusters.create``.

    :param scripts: URIs of our own initialization actions, ``nfs`` and ``dask``, and of what makes the cluster
        ``elastic``, as far as the spec needs them.
    :param bucket: for Dataproc's own files, such as the output of jobs, unless the spec names one: Airflow reads it.
    :param versions: of ``dask`` and ``gcsfs``, by which jobs leave their results, on the machines.
    """
    wanted: Object = {
        "projectId": project_id,
        "clusterName": owner.name,
        "labels": {
            **spec.labels,
            **labels(owner),
            **attempt_labels(attempt),
            SPEC: spec.hash(),
            **({LIMITS: limits(*spec.worker_range)} if spec.elastic else {}),
        },
        "config": {
            "configBucket": spec.staging_bucket or bucket,
            "tempBucket": spec.temp_bucket or spec.staging_bucket or bucket,
            **_config(spec, owner, scripts, versions, project_id),
        },
    }
    request: Object = without_nothing(merged(wanted, spec.cluster_config_overrides))
    _check_ours(wanted, request)
    return request


def _check_ours(wanted: Object, request: Object) -> None:
    """:raises InvalidInput: when the user's overrides remove what ends the cluster, or says whose it is."""
    field, allowed = "DataprocCluster.cluster_config_overrides", "other changes: without this nobody ends the cluster"
    config = request.get("config") or {}
    lifecycle = config.get("lifecycleConfig") or {}
    for name in ("idleDeleteTtl", "autoDeleteTtl"):
        if not (lifecycle.get(name) or (name == "autoDeleteTtl" and lifecycle.get("autoDeleteTime"))):
            raise InvalidInput(field, f"no config.lifecycleConfig.{name}", allowed)
        if name in lifecycle and not _DURATION.fullmatch(str(lifecycle[name])):
            raise InvalidInput(f"{field}: config.lifecycleConfig.{name}", lifecycle[name], 'seconds, as "600s"')
    found = (config.get("gceClusterConfig") or {}).get("metadata") or {}
    meant = wanted["config"]["gceClusterConfig"]["metadata"]
    for name in (OWNER, HANDLE, JOB_PROPERTIES, yarn.YARN):
        if found.get(name) != meant.get(name):
            raise InvalidInput(field, f"another metadata {name}", allowed)
    given = request.get("labels") or {}
    for name in (INSTANCE, ATTEMPT, STARTED, SPEC, LIMITS):
        if given.get(name) != wanted["labels"].get(name):
            raise InvalidInput(field, f"another label {name}", allowed)
    if len(given) > MOST_LABELS:
        raise InvalidInput("DataprocCluster.labels", sorted(given), f"at most {MOST_LABELS - 4} labels of yours")


def labels(owner: Owner) -> dict[str, str]:
    """What is on everything that belongs to an owner, to find it by."""
    return {INSTANCE: instance_label(owner.instance)}


def attempt_labels(attempt: Attempt) -> dict[str, str]:
    """Whose a cluster or job is now; the start as a whole number, as labels know no point."""
    return {ATTEMPT: str(attempt.number), STARTED: str(int(attempt.started * TICKS))}


def attempt_of(found: Mapping[str, Any]) -> tuple[int, float]:
    """Number and start of the try that has a cluster or job."""
    written = found.get("labels") or {}
    return int(written.get(ATTEMPT) or 0), int(written.get(STARTED) or 0) / TICKS


def limits(low: int, high: int) -> str:
    """Least and most workers as the value of a label."""
    return f"{low}-{high}"


def instance_label(instance: str) -> str:
    """An Airflow's name as the value of a label, of which not every character is one."""
    return hashlib.sha256(instance.encode()).hexdigest()[:16]


def _config(
    spec: DataprocCluster,
    owner: Owner,
    scripts: Mapping[str, str],
    versions: Mapping[str, str],
    project_id: str,
) -> Object:
    workers = (
        {} if spec.single_node else {"numInstances": spec.worker_range[0], **_machines(spec, spec.worker_machines)}
    )
    config: Object = {
        "gceClusterConfig": _network(spec) | {"metadata": metadata(spec, owner, versions, scripts)},
        "masterConfig": {"numInstances": 1, **_machines(spec, spec.master_machines)},
        "workerConfig": workers,
        "softwareConfig": {
            "imageVersion": None if spec.image else spec.image_version,
            "properties": {**_properties(spec), **spec.properties},
        },
        "initializationActions": [
            {"executableFile": uri, "executionTimeout": duration(spec.setup_seconds)} for uri in _actions(spec, scripts)
        ],
        "encryptionConfig": {"gcePdKmsKeyName": spec.kms_key, "kmsKey": spec.kms_key},
        "lifecycleConfig": {
            "idleDeleteTtl": duration(spec.idle_seconds),
            "autoDeleteTtl": duration(spec.lifetime_seconds),
        },
        "endpointConfig": {"enableHttpPortAccess": True} if spec.component_gateway else {},
        "autoscalingConfig": {"policyUri": _policy(spec, project_id)},
    }
    if spec.secondary_count or spec.elastic:  # none yet of an elastic one: this says of what kind they will be
        machines = {"numInstances": spec.secondary_count, "preemptibility": spec.preemptibility}
        config["secondaryWorkerConfig"] = {**machines, **_machines(spec, spec.secondary_machines)}
    return config


def _policy(spec: DataprocCluster, project_id: str) -> str | None:
    policy = spec.autoscaling_policy
    if policy is None or "/" in policy:
        return policy
    return f"projects/{project_id}/locations/{spec.region}/autoscalingPolicies/{policy}"


def _network(spec: DataprocCluster) -> Object:
    shielded = {"enableSecureBoot": True, "enableVtpm": True, "enableIntegrityMonitoring": True}
    return {
        "zoneUri": spec.zone,
        "subnetworkUri": spec.subnetwork,
        "internalIpOnly": spec.internal_ip_only,
        "serviceAccount": spec.service_account,
        "serviceAccountScopes": [_SCOPE],
        "tags": list(spec.tags),
        "shieldedInstanceConfig": shielded if spec.shielded else {},
    }


def _machines(spec: DataprocCluster, machines: Machines) -> Object:
    return {
        "machineTypeUri": machines.machine_type,
        "imageUri": spec.image,
        "diskConfig": {
            "bootDiskType": machines.disk_type,
            "bootDiskSizeGb": int(machines.disk_gb),
            "numLocalSsds": int(machines.local_ssds) or None,
        },
    }


def _properties(spec: DataprocCluster) -> dict[str, str]:
    wanted = {
        "dataproc:dataproc.logging.stackdriver.enable": spec.logging,
        "dataproc:dataproc.monitoring.stackdriver.enable": spec.monitoring,
    }
    if spec.single_node:
        wanted["dataproc:dataproc.allow.zero.workers"] = True
    # Only jobs of Dataproc count as work: nothing of Dask's runs on YARN without one.
    wanted["dataproc:dataproc.cluster-ttl.consider-yarn-activity"] = False
    texts = {name: str(value).lower() for name, value in wanted.items()}
    return texts | (yarn.properties(spec) if spec.runtime == "yarn" else {})


def _actions(spec: DataprocCluster, scripts: Mapping[str, str]) -> list[str]:
    """The user's scripts run before Dask starts, and after what they may need."""
    dask = PUBLIC_ACTION.format(region=spec.region) if spec.dask == "google" else scripts["dask"]
    return [*([scripts["nfs"]] if spec.nfs else []), *spec.initialization_actions, dask]


def metadata(
    spec: DataprocCluster, owner: Owner, versions: Mapping[str, str], scripts: Mapping[str, str]
) -> dict[str, str]:
    """What the initialization actions read on the machines, and whose the cluster is."""
    env = "\n".join(f"{name}={value}" for name, value in sorted(spec.env.items()))
    memory, installs = spec.memory_bytes, spec.dask not in ("image", "google")
    known = {
        "min_workers": spec.ready_workers,
        "ready_timeout": spec.ready_seconds,
        "idle_timeout": spec.idle_seconds,
    }
    wanted: dict[str, Any] = {
        **spec.metadata,
        OWNER: json.dumps(owner.labels(), sort_keys=True),
        HANDLE: json.dumps(known, sort_keys=True),
        "dask-runtime": spec.runtime,
        "dask-version": versions["dask"] if installs else None,
        "dask-wheelhouse": spec.dask if spec.dask.startswith("gs://") else None,
        "dask-packages": " ".join([f"gcsfs=={versions['gcsfs']}", *spec.packages]) if installs else None,
        "dask-env": env,
    }
    if spec.job_properties:
        wanted[JOB_PROPERTIES] = json.dumps(dict(spec.job_properties), sort_keys=True)
    if spec.runtime == "yarn":
        wanted[yarn.YARN] = json.dumps(yarn.wanted(spec), sort_keys=True)
    else:
        wanted |= {
            # Not given: each machine counts its own processors.
            "dask-worker-threads": None if spec.threads is None else spec.thread_count,
            "dask-worker-memory": None if memory is None else f"{memory}B",
            # Workers wait for the scheduler, whose machine may have more to do first.
            "dask-timeout": int(spec.setup_seconds * 0.8),
            "dask-worker-on-master": str(spec.single_node).lower(),
            "dask-elastic": scripts["elastic"] if spec.elastic else None,
        }
    if (nfs := spec.nfs_mount) is not None:
        wanted |= {"nfs_server": nfs.server, "nfs_export_dir": nfs.export, "nfs_mount_point": nfs.mount_point}
    return {name: str(value) for name, value in wanted.items() if value not in (None, "")}


def runs_googles_action(cluster: Mapping[str, Any]) -> bool:
    """Whether Dask comes from Google's initialization action and not from ours."""
    actions = cluster["config"].get("initializationActions") or ()
    begin, end = PUBLIC_ACTION.split("{region}")
    uris = [str(action["executableFile"]) for action in actions]
    return any(uri.startswith(begin) and uri.endswith(end) for uri in uris)


def python(cluster: Mapping[str, Any]) -> str:
    """The Python of Dask's environment on a cluster's machines."""
    return GOOGLES_PYTHON if runs_googles_action(cluster) else OUR_PYTHON


def environment(cluster: Mapping[str, Any]) -> dict[str, str]:
    """The environment that a cluster's spec gave it: what jobs have, too."""
    text = (cluster["config"]["gceClusterConfig"].get("metadata") or {}).get("dask-env", "")
    return dict(line.split("=", 1) for line in text.split("\n") if line)


def job_properties(cluster: Mapping[str, Any]) -> dict[str, str]:
    """The Spark properties that a cluster's spec wants for its jobs."""
    found = cluster["config"]["gceClusterConfig"].get("metadata") or {}
    return dict(json.loads(found.get(JOB_PROPERTIES, "{}")))


def duration(seconds: float) -> str:
    """As the API writes it: ``600s``."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def merged(wanted: Mapping[str, Any], overrides: Mapping[str, Any]) -> Object:
    """Mappings key by key, all else as a whole; ``None`` stays, to be removed."""
    result = dict(wanted)
    for name, value in overrides.items():
        there = result.get(name)
        both = isinstance(there, Mapping) and isinstance(value, Mapping)
        result[name] = merged(there, value) if both else value  # type: ignore[arg-type]
    return result


def without_nothing(value: Any) -> Any:
    """Without what is ``None``, an empty text, list or mapping."""
    if isinstance(value, Mapping):
        plain = {name: without_nothing(item) for name, item in value.items()}
        return {name: item for name, item in plain.items() if item is not None and item not in ("", [], {})}
    if isinstance(value, list | tuple):
        return [without_nothing(item) for item in value]
    return value
