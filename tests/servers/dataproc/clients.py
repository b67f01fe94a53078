"""Google's own clients for the emulator: over REST, and over gRPC, which is the one they take by themselves."""

from __future__ import annotations

import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.auth.credentials import AnonymousCredentials
from google.cloud import dataproc_v1
from google.cloud.dataproc_v1.services.autoscaling_policy_service.transports import (
    AutoscalingPolicyServiceRestTransport,
)
from google.cloud.dataproc_v1.services.cluster_controller.transports import (
    ClusterControllerGrpcAsyncIOTransport,
    ClusterControllerGrpcTransport,
    ClusterControllerRestTransport,
)
from google.cloud.dataproc_v1.services.job_controller.transports import (
    JobControllerGrpcAsyncIOTransport,
    JobControllerGrpcTransport,
    JobControllerRestTransport,
)

from tests.servers.dataproc.server import DataprocServer

Value = TypeVar("Value")


def cluster_client(server: DataprocServer) -> dataproc_v1.ClusterControllerClient:
    return dataproc_v1.ClusterControllerClient(transport=ClusterControllerRestTransport(**_options(server)))


def job_client(server: DataprocServer) -> dataproc_v1.JobControllerClient:
    return dataproc_v1.JobControllerClient(transport=JobControllerRestTransport(**_options(server)))


def policy_client(server: DataprocServer) -> dataproc_v1.AutoscalingPolicyServiceClient:
    transport = AutoscalingPolicyServiceRestTransport(**_options(server))
    return dataproc_v1.AutoscalingPolicyServiceClient(transport=transport)


def grpc_cluster_client(server: DataprocServer) -> dataproc_v1.ClusterControllerClient:
    channel = grpc.insecure_channel(server.grpc_address)
    return dataproc_v1.ClusterControllerClient(transport=ClusterControllerGrpcTransport(channel=channel))


def grpc_job_client(server: DataprocServer) -> dataproc_v1.JobControllerClient:
    channel = grpc.insecure_channel(server.grpc_address)
    return dataproc_v1.JobControllerClient(transport=JobControllerGrpcTransport(channel=channel))


def async_cluster_client(server: DataprocServer) -> dataproc_v1.ClusterControllerAsyncClient:
    """To be made and used in one event loop."""
    channel = grpc.aio.insecure_channel(server.grpc_address)
    return dataproc_v1.ClusterControllerAsyncClient(transport=ClusterControllerGrpcAsyncIOTransport(channel=channel))


def async_job_client(server: DataprocServer) -> dataproc_v1.JobControllerAsyncClient:
    """To be made and used in one event loop."""
    channel = grpc.aio.insecure_channel(server.grpc_address)
    return dataproc_v1.JobControllerAsyncClient(transport=JobControllerGrpcAsyncIOTransport(channel=channel))


def wait_for(check: Callable[[], Value], seconds: float = 20.0) -> Value:
    """The first value that is true.

    :raises TimeoutError: there was none in time.
    """
    until = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > until:
            raise TimeoutError(f"it did not happen within {seconds} s")
        time.sleep(0.05)
    return value


def put_object(server: DataprocServer, uri: str, content: str | bytes) -> str:
    """Write an object of the GCS server; gives its URI."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
    data = content.encode() if isinstance(content, str) else content
    request = urllib.request.Request(f"{server.gcs_url}/upload/storage/v1/b/{bucket}/o?{query}", data, method="POST")
    urllib.request.urlopen(request, timeout=30).close()
    return uri


def read_object(server: DataprocServer, uri: str) -> bytes:
    """:raises urllib.error.HTTPError: 404: there is none."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    address = f"{server.gcs_url}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
    with urllib.request.urlopen(address, timeout=30) as answer:
        return bytes(answer.read())


def _options(server: DataprocServer) -> dict[str, Any]:
    return {"host": server.address, "url_scheme": "http", "credentials": AnonymousCredentials()}
