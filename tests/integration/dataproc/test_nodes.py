"""The nodes of the emulator: what Dataproc's scripts find on them, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.place import until
from tests.servers.dataproc.clients import wait_for
from tests.servers.dataproc.node.fixtures import BUCKET, Cluster
from tests.servers.dataproc.node.leftovers import owned
from tests.servers.dataproc.node.namespaces import NamespaceNodes
from tests.servers.dataproc.node.networks import bridge_name
from tests.servers.dataproc.nodes import InitializationAction
from tests.servers.dataproc.objects import Objects

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.node.fixtures"]

UNIT = """[Unit]
Description=Counts its starts
StartLimitIntervalSec=0
[Service]
User=nobody
Environment="GREETING=good day" OTHER=x
EnvironmentFile=-/etc/missing
EnvironmentFile=/etc/default/counter
ExecStart=/usr/bin/python3 -u /opt/counter.py
ExecStop=/bin/sh -c 'echo stop as nobody'
Restart=on-failure
RestartSec=100ms
KillMode=mixed
TimeoutStopSec=1
StandardOutput=append:/var/log/counter.log
StandardError=append:/var/log/counter.log
[Install]
WantedBy=multi-user.target
"""
# Starts a child that ignores SIGTERM, then ends as its file says.
COUNTER = """
import os, subprocess, sys, time
print("start", os.getuid(), os.environ["GREETING"], os.environ["LIST"], flush=True)
subprocess.Popen(["sh", "-c", "trap '' TERM; exec sleep 1000"])
while not os.path.exists("/run/end"):
    time.sleep(0.02)
sys.exit(int(open("/run/end").read()))
"""


def interfaces(folder: Path) -> set[str]:
    """Of the nodes in this folder, in a cluster of the fixture's."""
    bridge = bridge_name(folder, f"uuid-{folder.name}")
    return {name for name in os.listdir("/sys/class/net") if name.startswith(bridge[:10])}


async def test_what_a_node_is_told_and_what_it_reaches(cluster: Cluster):
    cluster.metadata = {"colour": "blue", "two lines": "a\nb"}
    async with Objects(cluster.gcs.url) as objects:
        for name in ("wheels/a.whl", "wheels/b.whl", "wheels/deep/c.whl"):
            await objects.write(f"gs://{BUCKET}/{name}", name.encode())
    await cluster.start("etl-m", "etl-w-0", actions=())

    value = "/usr/share/google/get_metadata_value"
    told = cluster.sh(
        "etl-w-0", f"for k in name zone attributes/colour attributes/dataproc-role; do {value} $k; echo; done"
    )
    assert told.stdout.split() == ["etl-w-0", "projects/1/zones/europe-west1-b", "blue", "Worker"]
    assert (
        cluster.sh("etl-w-0", f"{value} 'attributes/two%20lines' | wc -l; {value} attributes/x; echo $?").stdout
        == "0\n22\n"
    )
    url = "http://metadata.google.internal/computeMetadata/v1"
    curl = f"curl -s -o /dev/null -w '%{{http_code}} ' {url}/instance/name"
    assert cluster.sh("etl-m", f"{curl}; {curl} -H 'Metadata-Flavor: Google'").stdout == "403 200 "
    token = cluster.sh("etl-m", f"curl -s -H Metadata-Flavor:Google {url}/instance/service-accounts/default/token")
    assert '"access_token"' in token.stdout

    machine = cluster.sh("etl-m", "hostname; getconf _NPROCESSORS_ONLN; free -g | awk '/Mem:/ { print $2 }'; ls /mnt")
    assert machine.stdout.split()[:4] == ["etl-m", "4", "16", "1"]
    assert cluster.sh("etl-m", "getent hosts etl-w-0").stdout.split()[0] == cluster.nodes.address("etl-w-0")
    assert "unreachable" in cluster.sh("etl-m", "exec 3<>/dev/tcp/192.0.2.1/443").stderr

    copied = cluster.sh(
        "etl-m", f"mkdir /w && gcloud storage cp 'gs://{BUCKET}/wheels/*' /w/ && cat /w/*; ls /w | wc -l"
    )
    assert copied.stdout == "wheels/a.whlwheels/b.whl2\n", copied.stderr
    copied = cluster.sh("etl-m", f"gsutil -m cp -r gs://{BUCKET}/wheels /t/ && find /t -type f | sort")
    assert copied.stdout.split() == ["/t/wheels/a.whl", "/t/wheels/b.whl", "/t/wheels/deep/c.whl"], copied.stderr
    assert cluster.sh("etl-m", f"gcloud storage cp /w/a.whl gs://{BUCKET}/back/").returncode == 0
    async with Objects(cluster.gcs.url) as objects:
        assert await objects.read(f"gs://{BUCKET}/back/a.whl") == b"wheels/a.whl"
    for refused in (f"cp gs://{BUCKET}/nothing/* /w/", f"cp --gzip gs://{BUCKET}/wheels/a.whl /w/", "ls"):
        assert cluster.sh("etl-m", f"gcloud storage {refused}").returncode == 1

    assert len(interfaces(cluster.folder)) == 3
    # What a node writes is its own, except in the emulator's folder.
    state = cluster.folder.parent
    cluster.sh("etl-m", f"touch /etc/of-the-node /usr/bin/of-the-node {state}/of-the-emulator")
    assert (state / "of-the-emulator").exists()
    assert not any(Path(folder, "of-the-node").exists() for folder in ("/etc", "/usr/bin"))

    await asyncio.gather(cluster.nodes.stop("etl-m"), cluster.nodes.stop("etl-w-0"))
    await until(lambda: not interfaces(cluster.folder))
    assert not await cluster.nodes.alive("etl-m")
    assert not list(cluster.folder.iterdir())


async def test_services_run_as_their_units_say(cluster: Cluster):
    await cluster.start("etl-m", actions=())
    root = Path(f"/proc/{cluster.nodes.holder('etl-m')}/root")
    unit = root / "etc/systemd/system/counter.service"
    unit.write_text(UNIT)
    (root / "etc/default/counter").write_text("""LIST='["a", "b"]'\n""")
    (root / "opt/counter.py").write_text(COUNTER)
    log = root / "var/log/counter.log"

    def systemctl(command: str) -> str:
        done = cluster.sh("etl-m", f"systemctl {command}; echo $?")
        return (done.stdout + done.stderr).strip()

    assert systemctl("is-active counter") == "inactive\n3"
    assert systemctl("daemon-reload") == systemctl("enable counter") == systemctl("start counter.service") == "0"
    assert systemctl("is-active counter") == "active\n0"
    assert systemctl("is-enabled counter") == "enabled\n0"
    await until(lambda: log.exists() and log.read_text() == """start 65534 good day ["a", "b"]\n""")

    # A failure starts it again, and takes the rest of its processes along; a clean end does not.
    (root / "run/end").write_text("3")
    await until(lambda: systemctl("show -p NRestarts --value counter").split()[0] >= "2")
    (root / "run/end").write_text("0")
    await until(lambda: systemctl("is-active counter") == "inactive\n3")
    await until(lambda: cluster.sh("etl-m", "pgrep -x sleep").stdout == "")
    (root / "run/end").unlink()
    assert systemctl("start counter") == "0"
    main = systemctl("show -p MainPID --value counter").split()[0]
    assert systemctl("start counter") == "0"
    assert systemctl("show -p MainPID --value counter").split()[0] == main
    assert systemctl("stop counter") == "0"
    assert log.read_text().endswith("stop as nobody\n")
    await until(lambda: cluster.sh("etl-m", "pgrep -x sleep").stdout == "")

    unit.write_text(UNIT.replace("/usr/bin/python3", "/usr/bin/nothing"))
    assert "No such file" in systemctl("start counter")
    assert systemctl("is-active counter") == "failed\n3"
    for wrong, named in (
        ("Nice=5", "Nice=5"),
        ("Type=notify", "Type=notify"),
        ("ExecStart=/bin/true", "one ExecStart"),
        ("ExecStop=/bin/kill $MAINPID", "$MAINPID"),
        ("TimeoutStopSec=soon", "soon"),
        ("[Timer]", "[Timer]"),
    ):
        unit.write_text(UNIT.replace("[Install]", f"{wrong}\n[Install]"))
        answer = systemctl("start counter")
        assert answer.startswith("1\nFailed: /etc/systemd/system/counter.service: "), answer
        assert named in answer
    for command in ("mask counter", "start --runtime counter", "start counter.timer", "show -p Slice counter"):
        assert "does not know" in systemctl(command)
    assert systemctl("start nothing").startswith("5\n")


async def test_actions_and_drivers(cluster: Cluster):
    async with Objects(cluster.gcs.url) as objects:
        await objects.write(f"gs://{BUCKET}/slow.sh", b"sleep 1000 & echo begun; sleep 1000")
        await objects.write(f"gs://{BUCKET}/bad.sh", b"echo out; echo err >&2; exit 7")
    bad, slow = InitializationAction(f"gs://{BUCKET}/bad.sh", 60), InitializationAction(f"gs://{BUCKET}/slow.sh", 3)
    results = await cluster.nodes.start(cluster.node("etl-m", [bad, slow]))
    assert [(one.exit_code, one.output) for one in results] == [(7, b"out\nerr\n")]
    late = await cluster.nodes.act("etl-m", slow)
    assert (late.exit_code, late.output) == (None, b"begun\n")
    await until(lambda: cluster.sh("etl-m", "pgrep -x sleep").stdout == "")

    out = cluster.folder.parent / "driver.out"
    program = f"import os, sys, time; open({str(out)!r}, 'w').write(os.environ['X'] + sys.prefix); time.sleep(1000)"
    await cluster.nodes.run("etl-m", "driver-1", ["python", "-c", program], {"X": "x "})
    await until(lambda: out.exists() and out.read_text() == "x /opt/dask")
    # The emulator starts anew.
    again = NamespaceNodes(cluster.folder, cluster.gcs.url)
    assert await again.alive("etl-m")
    assert await again.running("etl-m", "driver-1")
    await again.end("etl-m", "driver-1", signal.SIGTERM)
    await until(lambda: cluster.sh("etl-m", "pgrep -fc time.sleep").stdout == "0\n")
    assert not await again.running("etl-m", "driver-1")
    await again.kill("etl-m")
    assert not await again.alive("etl-m")
    with pytest.raises(OSError, match="no node etl-m"):
        await again.run("etl-m", "driver-2", ["python", "-c", ""], {})


def test_what_a_killed_owner_left_is_cleared_away(cluster: Cluster, tmp_path: Path):
    folder = tmp_path / "state" / "nodes"
    # Even the records of its nodes are gone.
    program = f"""
import asyncio, os, shutil, signal
from pathlib import Path
from tests.servers.dataproc.clients import wait_for
from tests.servers.dataproc.node.fixtures import Cluster
from tests.servers.dataproc.node.leftovers import owned
from tests.servers.dataproc.node.namespaces import NamespaceNodes
from tests.servers.dataproc.node.networks import bridge_name
folder = Path({str(folder)!r})
with owned(folder):
    nodes = NamespaceNodes(folder, {cluster.gcs.url!r})
    asyncio.run(Cluster(nodes, folder, folder, None).start("etl-m", actions=()))
    shutil.rmtree(folder)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    search = ["pgrep", "-f", f"{folder}/etl-m"]
    assert subprocess.run(search, capture_output=True, check=False).stdout
    assert interfaces(folder)
    with owned(tmp_path / "other"):
        assert not subprocess.run(search, capture_output=True, check=False).stdout
        wait_for(lambda: not interfaces(folder))
