"""A real YARN, one ResourceManager and some NodeManagers, from Maven Central."""

from __future__ import annotations

from tests.servers.yarn.server import YarnServer, running_yarn, start_yarn

__all__ = ["YarnServer", "running_yarn", "start_yarn"]
