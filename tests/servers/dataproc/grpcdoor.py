"""The same API over gRPC, for clients that speak nothing else: every call is put through to the REST API.

Google's own REST transports say which call is which request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from google.api_core import path_template
from google.cloud import dataproc_v1
from google.cloud.dataproc_v1.services.autoscaling_policy_service.transports.rest_base import (
    _BaseAutoscalingPolicyServiceRestTransport,
)
from google.cloud.dataproc_v1.services.cluster_controller.transports.rest_base import (
    _BaseClusterControllerRestTransport,
)
from google.cloud.dataproc_v1.services.job_controller.transports.rest_base import _BaseJobControllerRestTransport
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, json_format
from google.rpc import status_pb2

_PACKAGE = "google.cloud.dataproc.v1"
_OPERATION, _EMPTY = operations_pb2.Operation, empty_pb2.Empty
_CLUSTER, _JOB, _POLICY = (kind.pb() for kind in (dataproc_v1.Cluster, dataproc_v1.Job, dataproc_v1.AutoscalingPolicy))
# Of each service: where its rules are, and what its methods answer.
_SERVICES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ClusterController": (
        _BaseClusterControllerRestTransport,
        {f"{verb}Cluster": _OPERATION for verb in ("Create", "Update", "Delete", "Stop", "Start", "Diagnose")}
        | {"GetCluster": _CLUSTER, "ListClusters": dataproc_v1.ListClustersResponse.pb()},
    ),
    "JobController": (
        _BaseJobControllerRestTransport,
        {f"{verb}Job": _JOB for verb in ("Submit", "Get", "Update", "Cancel")}
        | {"SubmitJobAsOperation": _OPERATION, "DeleteJob": _EMPTY, "ListJobs": dataproc_v1.ListJobsResponse.pb()},
    ),
    "AutoscalingPolicyService": (
        _BaseAutoscalingPolicyServiceRestTransport,
        {f"{verb}AutoscalingPolicy": _POLICY for verb in ("Create", "Get", "Update")}
        | {"DeleteAutoscalingPolicy": _EMPTY}
        | {"ListAutoscalingPolicies": dataproc_v1.ListAutoscalingPoliciesResponse.pb()},
    ),
}
_NAMED = "/v1/{name=projects/*/regions/*/operations/*}"
_OPERATIONS: dict[str, tuple[str, str, Any, Any]] = {
    "GetOperation": ("get", _NAMED, operations_pb2.GetOperationRequest, _OPERATION),
    "DeleteOperation": ("delete", _NAMED, operations_pb2.DeleteOperationRequest, _EMPTY),
    "CancelOperation": ("post", f"{_NAMED}:cancel", operations_pb2.CancelOperationRequest, _EMPTY),
    "ListOperations": (
        *("get", "/v1/{name=projects/*/regions/*/operations}"),
        *(operations_pb2.ListOperationsRequest, operations_pb2.ListOperationsResponse),
    ),
}
_STATES = {code.name: code for code in grpc.StatusCode}


def add_grpc(app: web.Application, address: str, rest_url: str) -> None:
    """:param address: host and port to listen at.
    :param rest_url: of the application itself.
    """

    async def running(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as session:
            server = await _serve(address, rest_url, session)
            yield
            await server.stop(None)

    app.cleanup_ctx.append(running)


async def _serve(address: str, rest_url: str, session: aiohttp.ClientSession) -> grpc.aio.Server:
    server = grpc.aio.server()
    for name, (rules, answers) in _SERVICES.items():
        handlers = {}
        for method, answer in answers.items():
            options = getattr(rules, f"_Base{method}")._get_http_options()
            request = getattr(dataproc_v1, _request_of(method)).pb()
            handlers[method] = _handler(request, answer, options, rest_url, session)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"{_PACKAGE}.{name}", handlers)])
    handlers = {
        method: _handler(request, answer, [{"method": verb, "uri": uri}], rest_url, session)
        for method, (verb, uri, request, answer) in _OPERATIONS.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("google.longrunning.Operations", handlers)])
    server.add_insecure_port(address)
    await server.start()
    return server


def _request_of(method: str) -> str:
    """Submitting a job has one request for both of its methods."""
    return "SubmitJobRequest" if method == "SubmitJobAsOperation" else f"{method}Request"


def _handler(
    request: Any, answer: Any, options: list[dict[str, str]], rest_url: str, session: aiohttp.ClientSession
) -> Any:
    async def call(message: Any, context: Any) -> Any:
        try:
            sent = path_template.transcode(options, message)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        body = json_format.MessageToDict(sent["body"]) if "body" in sent else None
        query = json_format.MessageToDict(sent["query_params"]) if sent.get("query_params") is not None else {}
        brought = dict(context.invocation_metadata()).get("authorization")
        headers = {"Authorization": brought} if brought else {}
        parameters = {key: str(value) for key, value in query.items()}
        try:
            verb, url = sent["method"].upper(), rest_url + sent["uri"]
            async with session.request(verb, url, params=parameters, json=body, headers=headers) as response:
                content = json.loads(await response.text())
        except aiohttp.ClientError as error:  # as a gRPC client sees a connection that breaks
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"Socket closed ({error})")
        if "error" in content and response.status >= 400:
            await _refuse(context, content["error"])
        return json_format.ParseDict(content, answer())

    make = grpc.unary_unary_rpc_method_handler
    return make(call, request_deserializer=request.FromString, response_serializer=answer.SerializeToString)


async def _refuse(context: Any, error: dict[str, Any]) -> None:
    code = _STATES.get(error["status"], grpc.StatusCode.UNKNOWN)
    status = {"code": code.value[0], "message": error["message"], "details": error.get("details", [])}
    content = json_format.ParseDict(status, status_pb2.Status()).SerializeToString()
    await context.abort(code, error["message"], (("grpc-status-details-bin", content),))
