"""What Dataproc's agent does on the master: it brings a job's files, starts the driver and carries its output away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from tests.servers.dataproc.messages import Message
from tests.servers.dataproc.world import ClusterEntry, JobEntry, World

# With a folder ($0) and a number ($1): runs a program in the folder, once ever. Output and exit code are files, so that
# they are there for an emulator that was started anew meanwhile.
_DRIVER = """
mkdir "$0/started-$1" 2>/dev/null || exit 0
cd "$0/work" && code="$0/exit-code-$1" && shift && trap : TERM INT || exit 1
"$@" >>../output 2>&1 </dev/null
echo $? >"$code.new" && mv "$code.new" "$code"
"""
_LOOK_SECONDS = 1.0


class Driver:
    """The driver of a job: its present attempt."""

    def __init__(self, world: World, cluster: ClusterEntry, job: JobEntry) -> None:
        self._world, self._job = world, job
        self.node = str(cluster.message.config.master_config.instance_names[0])
        self.number = len(job.failures)
        self.id = f"{job.message.job_uuid}-{self.number}"
        self._folder = world.jobs_folder / str(job.message.job_uuid)
        self._properties = properties(cluster.message, job.message)
        self._uploaded, self._looked = -1, time.monotonic()

    @property
    def started(self) -> bool:
        return (self._folder / f"started-{self.number}").exists()

    async def stage(self) -> None:
        """:raises FileNotFoundError: the job names an object that is not there."""
        work = self._folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        (self._folder / "output").touch()
        pyspark = self._job.message.pyspark_job
        for uri in [pyspark.main_python_file_uri, *pyspark.python_file_uris, *pyspark.file_uris]:
            if uri.startswith("gs://"):
                (work / _name(uri)).write_bytes(await self._world.objects.read(uri))

    async def start(self) -> None:
        """:raises OSError: it cannot be."""
        pyspark, work = self._job.message.pyspark_job, self._folder / "work"
        python = self._properties.get("spark.pyspark.driver.python") or self._properties.get("spark.pyspark.python")
        main = _local(work, pyspark.main_python_file_uri)
        argv = ["/bin/sh", "-c", _DRIVER, str(self._folder), str(self.number), python or "python", main, *pyspark.args]
        # Spark does the same for a Python driver: unbuffered, with the files of the job to import from.
        env = {"PYTHONUNBUFFERED": "YES", "PYTHONPATH": ":".join(_importable(work, pyspark.python_file_uris))}
        await self._world.nodes.run(self.node, self.id, argv, env)

    async def exit_code(self) -> int | None:
        """Of the ended driver.

        :raises ProcessLookupError: it is gone and left none.
        """
        if (code := self._exit_code()) is not None:
            return code
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            if not await self._world.nodes.running(self.node, self.id):
                if (code := self._exit_code()) is None:
                    raise ProcessLookupError(self.id)
                return code
        return None

    async def end(self, how: signal.Signals) -> None:
        await self._world.nodes.end(self.node, self.id, how)

    async def gone(self) -> bool:
        return not await self._world.nodes.running(self.node, self.id)

    async def upload(self, tries: int = 1) -> None:
        """Bring the output objects up to what the driver has written: the last one grows, then the next begins.

        A GCS server that is away is asked again, so often and with the next upload.
        """
        for number in range(tries):
            try:
                await self._upload()
                break
            except aiohttp.ClientError:
                if number + 1 < tries:
                    await asyncio.sleep(0.5)

    async def _upload(self) -> None:
        path, size = self._folder / "output", self._job.output_bytes
        length = path.stat().st_size if path.exists() else 0
        if length == self._uploaded:
            return
        with path.open("rb") as output:
            for index in range(max(0, self._uploaded) // size, length // size + 1):
                output.seek(index * size)
                content = output.read(min(size, length - index * size))
                if content or index == 0:
                    uri = f"{self._job.message.driver_output_resource_uri}.{index:09d}"
                    await self._world.objects.write(uri, content)
        self._uploaded = length

    def _exit_code(self) -> int | None:
        try:
            return int((self._folder / f"exit-code-{self.number}").read_text())
        except FileNotFoundError:
            return None


def properties(cluster: Message, job: Message) -> dict[str, str]:
    """Spark's for this job: the cluster's, and the job's own before them."""
    of_cluster = cluster.config.software_config.properties
    mine = dict(job.pyspark_job.properties)
    return {key[6:]: value for key, value in of_cluster.items() if key.startswith("spark:")} | mine


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def _local(work: Path, uri: str) -> str:
    return str(work / _name(uri)) if uri.startswith("gs://") else uri.removeprefix("file://")


def _importable(work: Path, uris: Sequence[str]) -> list[str]:
    paths = [_local(work, uri) for uri in uris]
    return list(dict.fromkeys(path if path.endswith((".zip", ".egg")) else str(Path(path).parent) for path in paths))
