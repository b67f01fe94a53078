"""The API's messages: Google's own protocol buffers, so that names, types and the JSON form are theirs."""

from __future__ import annotations

import json
import time
from typing import Any

from google.cloud import dataproc_v1
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.servers.dataproc.errors import invalid

Cluster = dataproc_v1.Cluster.pb()
ClusterStatus = dataproc_v1.ClusterStatus.pb()
ClusterOperationMetadata = dataproc_v1.ClusterOperationMetadata.pb()
ClusterOperationStatus = dataproc_v1.ClusterOperationStatus.pb()
InstanceGroup = dataproc_v1.InstanceGroupConfig.pb()
Job = dataproc_v1.Job.pb()
JobMetadata = dataproc_v1.JobMetadata.pb()
JobStatus = dataproc_v1.JobStatus.pb()
AutoscalingPolicy = dataproc_v1.AutoscalingPolicy.pb()
DiagnoseResults = dataproc_v1.DiagnoseClusterResults.pb()
DiagnoseRequest = dataproc_v1.DiagnoseClusterRequest.pb()

Message = Any  # protocol buffers have no types here


def parse(kind: Any, body: bytes | dict[str, Any]) -> Message:
    """A message from the JSON of a request.

    :raises ApiError: INVALID_ARGUMENT: no JSON, an unknown field, or a value of the wrong type.
    """
    try:
        content = body if isinstance(body, dict) else json.loads(body or b"{}")
        return json_format.ParseDict(content, kind())
    except (ValueError, json_format.ParseError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from None


def render(message: Message, number_enums: bool = False) -> dict[str, Any]:
    return dict(json_format.MessageToDict(message, use_integers_for_enums=number_enums))


def packed(message: Message, number_enums: bool = False) -> dict[str, Any]:
    """As an operation carries it: with its type."""
    return {"@type": f"type.googleapis.com/{message.DESCRIPTOR.full_name}", **render(message, number_enums)}


def timestamp(seconds: float | None = None) -> Timestamp:
    """A time, or now."""
    stamp = Timestamp()
    stamp.FromMicroseconds(int((time.time() if seconds is None else seconds) * 1e6))
    return stamp


def seconds(value: Duration | Timestamp) -> float:
    return float(value.seconds) + value.nanos / 1e9


def enter(resource: Message, kind: Any, state: str, **fields: Any) -> None:
    """Give a cluster, job or operation its next status; the one it had joins the history."""
    if resource.HasField("status"):
        resource.status_history.add().CopyFrom(resource.status)
    resource.status.CopyFrom(kind(state=state, state_start_time=timestamp(), **fields))


def state(resource: Message) -> str:
    field = resource.status.DESCRIPTOR.fields_by_name["state"]
    return str(field.enum_type.values_by_number[resource.status.state].name)
