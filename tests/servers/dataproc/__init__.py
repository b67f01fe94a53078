"""A model of the Dataproc v1 REST API whose clusters are real processes. How it is used: README.md beside this file."""

from __future__ import annotations

from tests.servers.dataproc.server import DataprocServer, start_dataproc

__all__ = ["DataprocServer", "start_dataproc"]
