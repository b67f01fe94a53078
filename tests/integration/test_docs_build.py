"""The documentation is built without a warning, and shows itself without any other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import require

ROOT = Path(__file__).parents[2]
# What a browser fetches by itself; links to follow are no matter.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//[^>]*>|<link\b[^>]*\bhref=\"?https?://[^>]*>"
)


def test_the_documentation_is_complete_and_needs_no_other_host(tmp_path: Path) -> None:
    require("mkdocs with mkdocs-material and mkdocstrings", all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))))
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not (found := FETCHED.findall(page.read_text())), f"{page.relative_to(site)}: {found}"
    reference = (site / "reference" / "operators" / "index.html").read_text()
    for name in (
        "DaskCreateClusterOperator",
        "DaskJobOperator",
        "DaskStoreResultsOperator",
        "DaskReapClustersOperator",
    ):
        assert name in reference
    assert ":class:" not in reference
