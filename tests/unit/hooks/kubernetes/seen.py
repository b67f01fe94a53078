"""Pods as the API server shows them."""

from __future__ import annotations

from typing import Any


def pod(component: str | None = "scheduler", *, phase: str = "Pending", **status: Any) -> dict[str, Any]:
    labels = {"dask.org/component": component} if component else {}
    limits = {"limits": {"memory": "2Gi"}}
    meta = {"name": f"x-{component}-1", "uid": f"u-{component}", "labels": labels}
    return {
        "metadata": meta,
        "spec": {"containers": [{"name": "main", "resources": limits}]},
        "status": {"phase": phase, **status},
    }


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "main", "image": "ghcr.io/acme/etl:1", "state": state, **more}]}


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-08-01T02:00:00Z", **more}}
