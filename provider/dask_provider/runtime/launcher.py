"""The beginning of a job that travels as one Python file: unpacks the bundle that follows, and runs it.

For places that start a Python file and nothing else. The file is this module's source and a call of :func:`main`.
"""

import base64
import ctypes
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from typing import Any


def main(bundle: str, *command: str) -> None:
    """Run the job, pass on signals, leave nothing behind. Ends with the job's exit code.

    :param bundle: the zipped files of the bundle in base 85.
    :param command: of the runtime.
    """
    folder = tempfile.mkdtemp(prefix="dask-job-")
    parent = os.getppid()
    code = 1
    try:
        zipfile.ZipFile(io.BytesIO(base64.b85decode(bundle))).extractall(folder)
        runtime = [f"{folder}/dask_job_runtime.pyz", *command, f"{folder}/job.json", f"{folder}/run"]
        job = subprocess.Popen([sys.executable, *runtime], preexec_fn=_die_with_parent)

        def pass_on(number: int, frame: Any) -> None:
            job.send_signal(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        while True:
            try:
                code = job.wait(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if os.getppid() != parent:  # whoever started us was killed: nobody waits for the job any more
                    job.terminate()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code if code >= 0 else 128 - code)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
