"""Packages that an image installs when it starts, as the images of the Dask project do."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pip
import pytest

from tests.integration.kubernetes.place import Namespace
from tests.servers.kubernetes import make_dask_image

IMAGE = "localhost/dask-prepares:tests"
#: what ``prepare.sh`` of the images does for pip, without an index; slowly, as it may be
PREPARE = """
if [ "$EXTRA_PIP_PACKAGES" ]; then
    sleep 10
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=$WHEELS PIP_BREAK_SYSTEM_PACKAGES=1
    PYTHONPATH=$TOOLS python3 -m pip install --quiet $EXTRA_PIP_PACKAGES || exit 1
fi
exec "$@"
"""


def make_wheel(folder: Path) -> None:
    """The package ``greeting`` 1.0."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "WORD = 'hello'\n")
        about = "greeting-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"greeting.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


@pytest.mark.whole
async def test_packages(place: Namespace) -> None:
    """They are there in scheduler, workers and job."""
    place.server.import_image(make_dask_image(IMAGE, entry_point=("sh", "-c", PREPARE, "prepare.sh")))
    make_wheel(place.shared / "wheels")
    shutil.copytree(Path(pip.__file__).parent, place.shared / "tools" / "pip")
    env = {"TOOLS": str(place.shared / "tools"), "WHEELS": str(place.shared / "wheels")}
    handle = await place.ready(place.spec(image=IMAGE, env=env, packages={"pip": ["greeting>=1"]}))
    script = """
        import greeting
        from distributed import Client
        with Client() as client:
            there = lambda: __import__("greeting").WORD
            print("all say", greeting.WORD, client.submit(there).result(), client.run_on_scheduler(there))
    """
    told = await place.run(handle, script)
    assert told.outcome.succeeded, told.outcome
    assert "all say hello hello hello" in told.lines
    await place.delete(handle)
