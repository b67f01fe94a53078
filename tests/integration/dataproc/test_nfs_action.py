"""nfs.sh, run on nodes. What is mounted comes by FUSE instead of NFS: see mount-nfs.sh of the nodes."""

from __future__ import annotations

import pytest

from tests.servers.dataproc.node import FILESTORE
from tests.servers.dataproc.node.fixtures import NFS, Cluster

pytestmark = pytest.mark.whole
pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.node.fixtures"]

LINE = f"{FILESTORE}:/export/data /mnt/shared nfs rw,hard,timeo=600,retrans=3,_netdev,nofail 0 0"


async def test_an_export_is_mounted_on_every_node(cluster: Cluster):
    (cluster.shared / "data").mkdir()
    cluster.metadata = {"nfs_server": FILESTORE, "nfs_export_dir": "/export/data", "nfs_mount_point": "/mnt/shared/"}
    outputs = await cluster.start("etl-m", "etl-w-0", actions=(NFS,))
    for output in outputs.values():
        assert f"nfs.sh: {FILESTORE}:/export/data is mounted at /mnt/shared (rw,hard,timeo=600,retrans=3)" in output
    # What one node writes the other reads, and the server has; nothing else was left there.
    assert cluster.sh("etl-w-0", "echo of the worker >/mnt/shared/file").returncode == 0
    assert cluster.sh("etl-m", "cat /mnt/shared/file").stdout == "of the worker\n"
    assert [(path.name, path.read_text()) for path in (cluster.shared / "data").iterdir()] == [
        ("file", "of the worker\n")
    ]

    # Again, with other options: one line for the mount point, what is mounted stays, and others' lines do.
    cluster.sh("etl-m", "echo '/dev/sdb /mnt/other ext4 defaults 0 2' >>/etc/fstab; exec 3>/mnt/shared/open")
    for more in ({}, {"nfs_options": "rw,soft"}):
        code, output = await cluster.act("etl-m", NFS, more)
        assert code == 0, output
    fstab = cluster.sh("etl-m", "grep -v '^#' /etc/fstab").stdout.splitlines()
    assert fstab == [
        "/dev/sdb /mnt/other ext4 defaults 0 2",
        LINE.replace("rw,hard,timeo=600,retrans=3", "rw,soft"),
    ]
    assert cluster.sh("etl-m", "findmnt -n /mnt/shared | wc -l").stdout == "1\n"
    assert cluster.sh("etl-w-0", "grep -v '^#' /etc/fstab").stdout == f"{LINE}\n"


async def test_what_is_refused(cluster: Cluster):
    (cluster.shared / "data").mkdir()
    cluster.metadata = {"nfs_server": FILESTORE, "nfs_export_dir": "/export/data"}
    await cluster.start("etl-m", "etl-w-0", actions=())
    cluster.sh("etl-m", "mkdir -p /mnt/taken /mnt/written && mount -t tmpfs another /mnt/taken")
    cluster.sh("etl-m", "echo '/dev/sdb /mnt/written ext4 defaults 0 2' >>/etc/fstab")
    cases = [
        ({"nfs_server": ""}, "metadata nfs_server: ''; allowed: address or name of the NFS server"),
        ({"nfs_server": "10.0.0.2:/export"}, "metadata nfs_server: '10.0.0.2:/export'; allowed: address or name"),
        ({"nfs_export_dir": "export"}, "metadata nfs_export_dir: 'export'; allowed: an absolute path"),
        ({"nfs_mount_point": "/mnt/my share"}, "metadata nfs_mount_point: '/mnt/my share'; allowed: an absolute path"),
        ({"nfs_options": "rw hard"}, "metadata nfs_options: 'rw hard'; allowed: options of mount"),
        (
            {"nfs_export_dir": "/other"},
            f"{FILESTORE} does not export it to this node: mount.nfs: access denied by server",
        ),
        ({"nfs_export_dir": "/export/new"}, f"metadata nfs_export_dir: {FILESTORE}:/export/new is not there"),
        ({"nfs_mount_point": "/mnt/taken"}, "metadata nfs_mount_point: 'another' is mounted at /mnt/taken"),
        ({"nfs_mount_point": "/mnt/written"}, "has another file system for /mnt/written: /dev/sdb"),
    ]
    for more, reason in cases:
        code, output = await cluster.act("etl-m", NFS, more)
        assert (code, reason in output) == (1, True), output
        assert "\nnfs.sh: remedy: " in output
    # Nobody answers; a place that cannot be written to, unless nobody wants to.
    unreachable = cluster.act("etl-w-0", NFS, {"nfs_server": "192.0.2.1"})
    cluster.sh("etl-m", "rm -f /etc/fstab; touch /etc/fstab; mkdir -p /mnt/shared")
    code, output = await cluster.act("etl-m", NFS)
    assert code == 0, output
    cluster.sh("etl-m", "mount --internal-only -o remount,bind,ro /mnt/shared")
    (code, output), (code_ro, output_ro) = (
        await cluster.act("etl-m", NFS),
        await cluster.act("etl-m", NFS, {"nfs_options": "ro"}),
    )
    assert (code, "is mounted, but cannot be written to" in output) == (1, True), output
    assert code_ro == 0, output_ro
    code, output = await unreachable
    assert (code, "metadata nfs_server: 192.0.2.1 does not answer on port 2049" in output) == (1, True), output
