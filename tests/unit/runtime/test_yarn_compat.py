"""How the compatibility module for dask-yarn comes into a process. What it does is tested on a real YARN."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dask_provider.runtime import yarn_compat

FINDERS = "import json, sys; print(json.dumps([type(finder).__name__ for finder in sys.meta_path]))"


def finders(python: str | Path, code: str = FINDERS, **environment: str) -> list[str]:
    """What looks for modules in a fresh Python."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], env=kept | environment, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_as_a_folder_on_the_path_it_hides_no_other(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    shutil.copy(yarn_compat.__file__, ours / "sitecustomize.py")
    (theirs / "sitecustomize.py").write_text("import os; os.environ['THEIRS'] = 'ran'")
    code = f"import os; assert os.environ['THEIRS'] == 'ran'; {FINDERS}"
    found = finders(sys.executable, code, PYTHONPATH=f"{ours}:{theirs}")
    assert found.count("_Finder") == 1


def test_installed_into_an_environment_and_twice_in_a_process(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    assert "_Finder" not in finders(python)
    done = subprocess.run([python, yarn_compat.__file__, "install"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"dask-yarn is made to work in {tmp_path / 'venv'}")
    shutil.copy(yarn_compat.__file__, tmp_path / "sitecustomize.py")
    assert finders(python).count("_Finder") == 1
    assert finders(python, PYTHONPATH=str(tmp_path)).count("_Finder") == 1


def test_nothing_is_imported_before_dask_yarn_is(tmp_path: Path) -> None:
    shutil.copy(yarn_compat.__file__, tmp_path / "sitecustomize.py")
    code = "import json, sys; print(json.dumps(sorted({'dask', 'distributed', 'tornado'} & set(sys.modules))))"
    assert finders(sys.executable, code, PYTHONPATH=str(tmp_path)) == []
