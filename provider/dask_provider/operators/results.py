"""Publish what a job left at its destination."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_provider._compat import BaseOperator, XComArg, asset, made_from_mapped, set_asset_extra
from dask_provider.errors import InvalidInput
from dask_provider.operators.ahead import known_ahead
from dask_provider.results import StoredResult, find_stored
from dask_provider.storage import split_connection
from dask_provider.units import human_bytes, is_template, parse_count

_SOURCE = "the result of a job step (run.output), or the URI of a manifest"


class DaskStoreResultsOperator(BaseOperator):
    """Publishes a job's result: whoever reads the destination sees the old complete result or the new complete one.

    Storing the same content again copies nothing. Whatever an interrupted try leaves, the next one removes. Files are
    held against the checksums that the job's manifest lists. How it is done: :mod:`dask_provider.publish.local` and
    :mod:`dask_provider.publish.objects`.

    An asset event with ``uri``, ``files``, ``bytes``, ``rows`` and ``version`` as its extra goes to the operator's
    ``outlets``. Without any, the asset is the destination as far as it is no template, without a slash at its end:
    ``s3://lake/flights/{{ ds }}/`` -> ``s3://lake/flights``. A mapped step needs ``outlets`` in its ``partial(...)``.

    :param source: the result of a job step (``run.output``), or the URI of a manifest. Templated.
    :param destination: where the files go: an absolute path or a URI prefix (``s3://[connection@]bucket/prefix/``,
        ``gs://``, ``abfs://``, ...); nothing but store steps may write there. Templated.
    :param skip_if_stored: when a complete result is there already, whatever its content, succeed without a look at the
        source.
    :param latest: name of a symbolic link beside a local destination that follows the newest result. Templated.
    :param threads: files copied at once.
    :raises InvalidInput: before anything is copied: a source that did not succeed or is not what its manifest says, a
        destination that is not writable or holds files of somebody else, an unknown connection.
    """

    template_fields: Sequence[str] = ("source", "destination", "latest")
    ui_color = "#fdd9b5"

    def __init__(
        self,
        *,
        source: dict[str, Any] | str | XComArg,
        destination: str | XComArg,
        skip_if_stored: bool = False,
        latest: str | XComArg | None = None,
        threads: int = 4,
        **kwargs: Any,
    ) -> None:
        # The operator of a mapped task is made in the worker: too late for Airflow to learn of a new asset.
        fixed = kwargs.get("outlets") or made_from_mapped(self)
        if not fixed and (uri := _asset_uri(destination)):
            kwargs["outlets"] = [asset(uri)]
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.skip_if_stored = skip_if_stored
        self.latest = latest
        self.threads = parse_count("DaskStoreResultsOperator.threads", threads)
        self._killed = False

    def execute(self, context: Any) -> dict[str, Any]:
        """Store, and return the record of :class:`dask_provider.results.StoredResult` as a dict."""
        from dask_provider.publish import follow, load_source, open_destination, publish

        manifest = source_manifest(self.source)
        root = open_destination(self.destination, self.latest)
        stored = find_stored(self.destination) if self.skip_if_stored or self._stored_there(root.uri) else None
        if stored is not None:
            if self.latest is not None:
                follow(self.destination, self.latest)
            self.log.info("%s holds a stored result already (version %s): nothing to do", stored.uri, stored.version)
        else:
            source, started = load_source(manifest), time.monotonic()
            progress = _ProgressLines(self.log, len(source.files), source.total_bytes, lambda: self._killed)
            stored = publish(source, self.destination, latest=self.latest, progress=progress, threads=self.threads)
            self.log.info(
                "%s %d files, %s at %s in %.1f s (version %s)",
                "stored" if progress.files else "the same content was stored already,",
                stored.files,
                human_bytes(stored.bytes),
                stored.uri,
                time.monotonic() - started,
                stored.version,
            )
        record = stored.to_dict()
        uri = split_connection(stored.uri)[1]
        names = ("files", "bytes", "rows", "version")
        set_asset_extra(context, self.outlets, uri, {"uri": uri, **{n: record[n] for n in names if n in record}})
        return record

    def check_destination(self, context: Any) -> None:
        """Try the destination as far as it is known before this task's turn; the create step asks for it.

        :raises InvalidInput: it is not writable, or not possible as a destination.
        """
        from dask_provider.publish import check_destination

        if known_ahead(self.destination) and (self.latest is None or known_ahead(self.latest)):
            destination, latest = self.render_template([self.destination, self.latest], context)
            if not (self.skip_if_stored and find_stored(destination)):
                check_destination(destination, latest)

    def on_kill(self) -> None:
        """Ends the copying at the next block; the destination stays as it is."""
        self._killed = True

    def plan(self) -> dict[str, Any]:
        """What would be done, without doing any of it."""
        return {
            "source": self.source if isinstance(self.source, str | Mapping) else str(self.source),
            "destination": str(self.destination),
            "skip_if_stored": self.skip_if_stored,
            "latest": self.latest,
            "assets": [outlet.uri for outlet in self.outlets if hasattr(outlet, "uri")],
        }

    def dry_run(self) -> None:
        """Print the plan."""
        print(json.dumps(self.plan(), indent=2, default=str))

    def _stored_there(self, destination: str) -> bool:
        """Whether the job was skipped because its result lies at this very destination."""
        stored = self.source.get("stored") if isinstance(self.source, Mapping) else None
        return bool(stored) and StoredResult.from_dict(stored).destination == destination


def source_manifest(source: object) -> str:
    """URI of the manifest to store.

    :raises InvalidInput: for anything but a manifest's URI or the result of a job that succeeded.
    """
    if isinstance(source, str) and source.strip():
        return source
    if not isinstance(source, Mapping):
        raise InvalidInput("source", source, _SOURCE)
    if source.get("state") != "succeeded":
        raise InvalidInput("source", source, "the result of a job that succeeded")
    if stored := source.get("stored"):
        return StoredResult.from_dict(stored).manifest
    manifest = source.get("manifest")
    if not isinstance(manifest, str) or not manifest:
        raise InvalidInput("source", source, _SOURCE)
    return manifest


class _ProgressLines:
    """Logs how far the copying is, at most every ten seconds; ends it when the task is killed."""

    def __init__(self, log: logging.Logger, files: int, size: int, killed: Callable[[], bool]) -> None:
        self._log, self._of, self._killed = log, (files, size), killed
        self._next = time.monotonic() + 10
        self.files = 0

    def __call__(self, files: int, size: int) -> None:
        if self._killed():
            raise RuntimeError("the task was killed: copying ends, the destination stays as it was")
        self.files = files
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 10
            of = human_bytes(self._of[1])
            self._log.info("stored %d of %d files, %s of %s", files, self._of[0], human_bytes(size), of)


def _asset_uri(destination: object) -> str | None:
    """The part of a destination that is the same for every run; ``None`` when there is none worth a name."""
    if not isinstance(destination, str):
        return None
    _, uri = split_connection(destination)
    if is_template(uri):
        fixed = uri[: min(at for at in (uri.find("{{"), uri.find("{%")) if at >= 0)]
        uri = fixed[: fixed.rfind("/") + 1]
    uri = f"file://{uri}" if uri.startswith("/") else uri
    scheme, found, rest = uri.rstrip("/").partition("://")
    return f"{scheme}://{rest}" if found and rest.strip("/") and "{" not in uri and uri.isascii() else None
