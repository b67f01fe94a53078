"""``gcloud storage cp`` and ``gsutil cp`` of a node, for the GCS server of the tests; everything else is refused.

Runs inside nodes, with the standard library alone.
"""

from __future__ import annotations

import fnmatch
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlencode

URL = json.loads(Path("/etc/node-stand-in.json").read_text())["gcs_url"]
_FLAGS = {"-r", "-R", "--recursive", "-q", "--quiet", "-m", "--no-user-output-enabled"}


def main(program: str, argv: list[str]) -> int:
    words = [word for word in argv if word not in _FLAGS]
    command = ["storage", "cp"] if program == "gcloud" else ["cp"]
    unknown = [word for word in words if word.startswith("-")]
    if words[: len(command)] != command or unknown or len(words) < len(command) + 2:
        return _fail(f"the stand-in for {program} knows only '{' '.join(command)}', not '{' '.join(argv)}'")
    *sources, target = words[len(command) :]
    recursive = bool({"-r", "-R", "--recursive"} & set(argv))
    try:
        for source in sources:
            if source.startswith("gs://"):
                _download(source, target, recursive)
            else:
                _upload(Path(source), target)
    except (LookupError, OSError) as error:
        return _fail(str(error))
    return 0


def _download(source: str, target: str, recursive: bool) -> None:
    bucket, _, pattern = source[5:].partition("/")
    prefix = pattern.split("*")[0]
    names = []
    for name in _names(bucket, prefix):
        # "*" stops at a slash, and a folder's whole content comes only when asked for.
        if _matches(name, pattern) or (recursive and name.startswith(pattern.rstrip("/") + "/")):
            names.append(name)
    if not names:
        raise LookupError(f"The following URLs matched no objects or files: {source}")
    for name in names:
        path = Path(target)
        if target.endswith("/") or path.is_dir():
            inside = name[len(pattern.rstrip("/").rpartition("/")[0]) :].lstrip("/") if recursive else Path(name).name
            path = path / inside
            path.parent.mkdir(parents=True, exist_ok=True)
        elif len(names) > 1:
            raise LookupError(f"Destination URL must name an existing directory: {target}")
        path.write_bytes(_ask(f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"))


def _upload(source: Path, target: str) -> None:
    bucket, _, name = target[5:].partition("/")
    if not target.startswith("gs://") or not bucket:
        raise LookupError(f"one of source and destination is gs://, not '{source}' and '{target}'")
    name = f"{name}{source.name}" if not name or name.endswith("/") else name
    query = urlencode({"uploadType": "media", "name": name})
    _ask(f"/upload/storage/v1/b/{bucket}/o?{query}", source.read_bytes())


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _names(bucket: str, prefix: str) -> list[str]:
    query: dict[str, str] = {"prefix": prefix}
    names: list[str] = []
    while True:
        page = json.loads(_ask(f"/storage/v1/b/{bucket}/o?{urlencode(query)}"))
        names += [item["name"] for item in page.get("items", [])]
        if "nextPageToken" not in page:
            return names
        query["pageToken"] = page["nextPageToken"]


def _ask(path: str, body: bytes | None = None) -> bytes:
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, data=body), timeout=60) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise LookupError(f"HTTPError {error.code}: {path.split('?')[0]}: {error.reason}") from None


def _fail(text: str) -> int:
    print(f"ERROR: ({sys.argv[1]}) {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
