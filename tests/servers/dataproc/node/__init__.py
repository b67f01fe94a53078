"""Nodes with a file system, a network and processes of their own: instances as Dataproc's scripts find them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers.dataproc.node.namespaces import NamespaceNodes

__all__ = ["FILESTORE", "NamespaceNodes", "real_nodes"]

#: address of the NFS server of :func:`real_nodes`, which exports ``/export``
FILESTORE = "10.9.8.7"


def real_nodes(folder: Path, gcs_url: str) -> NamespaceNodes:
    """Nodes whose image has the packages of the tests. Their NFS server exports ``filestore``, beside ``folder``.

    Who starts an emulator with them holds :func:`~tests.servers.dataproc.node.leftovers.owned` meanwhile.
    """
    shared = folder.parent / "filestore"
    shared.mkdir(exist_ok=True)
    return NamespaceNodes(
        folder, gcs_url, image=Path(sys.prefix), exports={FILESTORE: {"export": shared}}, local_ssds=1
    )
