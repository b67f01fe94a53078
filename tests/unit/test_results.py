"""Manifests, locations and the store operator: what is refused, and with which words."""

import json
import pickle
from types import SimpleNamespace

import pytest
from airflow import DAG
from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.operators.results import DaskStoreResultsOperator, source_manifest
from dask_provider.publish import open_destination
from dask_provider.results import Manifest, ManifestFile, StoredResult

SHA = "0" * 64


def entry(path="a.parquet", **changes):
    return {"path": path, "bytes": 3, "sha256": SHA, "rows": None} | changes


def record(*files, **changes):
    listed = list(files)
    base = {"version": 1, "job_id": "j", "results": "s3://b/r", "created": "2026-01-01T00:00:00+00:00", "bytes": 3}
    return json.dumps(base | {"files": listed} | changes).encode()


def test_a_manifest_survives_the_round_trip_and_its_version_is_that_of_the_content():
    files = [ManifestFile("z", 1, SHA, 10), ManifestFile("a/b", 2, SHA)]
    manifest = Manifest.build("job", "s3://b/r", files)
    assert [file.path for file in manifest.files] == ["a/b", "z"]
    assert Manifest.parse("source", "m", manifest.to_json()) == manifest
    assert (manifest.results, manifest.rows, manifest.total_bytes) == ("s3://b/r/", 10, 3)
    assert Manifest.build("another job", "gs://c/", files[::-1]).content == manifest.content
    assert Manifest.build("job", "s3://b/r", [ManifestFile("z", 1, "1" * 64), files[1]]).content != manifest.content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no json", "in JSON"),
        (b"[]", "in JSON"),
        (record(version=2), "format 2"),
        (record(entry(sha256="abc")), "checksum"),
        (record(entry(bytes=-1)), "the file"),
        (record({"path": "a"}), "no 'bytes'"),
        (record(entry("/etc/passwd")), "relative paths"),
        (record(entry("a/../../b")), "relative paths"),
        (record(entry("a"), entry("a")), "each once"),
        (record(entry("_manifest.json")), "which the store uses"),
    ],
)
def test_a_manifest_that_is_not_one_is_refused(content, words):
    with pytest.raises(InvalidInput, match=words) as refused:
        Manifest.parse("source", "s3://b/manifest.json", content)
    assert refused.value.field == "source"
    assert "s3://b/manifest.json" in str(refused.value)


def test_local_locations(tmp_path):
    (tmp_path / "empty").touch()
    assert storage.read_bytes("script", str(tmp_path / "empty")) == b""
    assert storage.open_path("x", f"file://{tmp_path}/a/").uri == f"file://{tmp_path}/a/"
    storage.check_writable("destination", f"{tmp_path}/not/made/yet/")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    with pytest.raises(InvalidInput, match=r"destination.*NotADirectoryError"):
        storage.check_writable("destination", f"{tmp_path}/empty/below")
    for missing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InvalidInput, match=r"script: .* a file that exists"):
            storage.read_bytes("script", str(missing))


def test_splitting_and_joining():
    assert storage.split_connection("s3://prod@b/k@1") == ("prod", "s3://b/k@1")
    assert storage.split_connection("gs://b") == (None, "gs://b")
    assert storage.split_connection("/a@b/c") == (None, "/a@b/c")
    assert storage.join("s3://b/p/", "x") == storage.join("s3://b/p", "x") == "s3://b/p/x"
    assert storage.join("s3://b", "") == "s3://b/"


@pytest.mark.parametrize("uri", ["", " ", None, "s3://", "s3:///key", "what://b/k", "s3a+x:", "file://host/x"])
def test_uris_that_are_none(uri):
    with pytest.raises(InvalidInput, match=r"script: .*allowed: "):
        storage.read_bytes("script", uri)


def test_unknown_connection_and_two_connections(monkeypatch):
    with pytest.raises(InvalidInput, match="there is none with the id 'nowhere'"):
        storage.open_path("script", "s3://nowhere@bucket/key")
    with pytest.raises(InvalidInput, match="names 'a', the other setting 'b'"):
        storage.open_path("script", "s3://a@bucket/key", "b")


@pytest.mark.parametrize(("uri", "extra"), [("s3://b/k", "s3"), ("gs://b/k", "gcs"), ("abfs://b/k", "azure")])
@pytest.mark.parametrize("error", [ValueError("No filesystem registered"), ImportError("s3fs")])
def test_a_provider_that_is_not_installed(monkeypatch, uri, extra, error):
    def missing(*_):
        raise error

    monkeypatch.setattr("dask_provider._compat.open_object_storage", missing)
    with pytest.raises(InvalidInput, match=rf"install airflow-provider-dask\[{extra}\]"):
        storage.open_path("destination", uri)


def test_destinations_that_are_none(tmp_path):
    for wrong in ("", "relative/path", "/", "~nobody-at-all"):
        with pytest.raises(InvalidInput, match="destination"):
            open_destination(wrong)
    for latest in ("", "a/b", ".hidden", "run1"):
        with pytest.raises(InvalidInput, match="latest"):
            open_destination(f"{tmp_path}/run1", latest)
    with pytest.raises(InvalidInput, match="object store"):
        open_destination("memory://somewhere/x", "latest")


def stored(destination):
    return StoredResult(destination, destination, destination + "_manifest.json", "0" * 16, 1, 3)


@pytest.mark.parametrize(
    "source",
    [None, "", 7, {}, {"state": "failed", "manifest": "s3://b/m"}, {"state": "unknown"}, {"state": "succeeded"}],
)
def test_sources_that_are_none(source):
    with pytest.raises(InvalidInput, match="source"):
        source_manifest(source)


def test_sources():
    assert source_manifest("s3://b/m.json") == "s3://b/m.json"
    assert source_manifest({"state": "succeeded", "manifest": "s3://b/m.json"}) == "s3://b/m.json"
    skipped = {"state": "succeeded", "manifest": None, "stored": stored("s3://b/d/").to_dict()}
    assert source_manifest(skipped) == "s3://b/d/_manifest.json"


@pytest.mark.parametrize(
    ("destination", "assets"),
    [
        ("s3://lake/flights/{{ ds }}/", ["s3://lake/flights"]),
        ("s3://prod@lake/flights/", ["s3://lake/flights"]),
        ("s3://lake/day={{ ds }}/x", ["s3://lake"]),
        ("/data/flights/{% if x %}a{% endif %}", ["file:///data/flights"]),
        ("{{ params.to }}/x", []),
        ("s3://{{ params.bucket }}/x", []),
        ("relative", []),
    ],
)
def test_the_asset_is_what_every_run_shares(destination, assets):
    step = DaskStoreResultsOperator(task_id="store", source="s3://b/m.json", destination=destination)
    assert [uri.rstrip("/") for uri in step.plan()["assets"]] == assets


def test_a_mapped_step_makes_no_asset_that_airflow_does_not_know():
    with DAG("mapped", schedule=None):
        step = DaskStoreResultsOperator.partial(task_id="store", destination="/data/{{ ds }}/").expand(
            source=["a", "b"]
        )
    assert not step.outlets
    assert not step.unmap({"source": "a"}).outlets


def test_dry_run_prints_the_plan_and_touches_nothing(tmp_path, capsys):
    step = DaskStoreResultsOperator(task_id="store", source="/nothing.json", destination=str(tmp_path / "d"))
    step.dry_run()
    assert json.loads(capsys.readouterr().out)["destination"] == str(tmp_path / "d")
    assert not list(tmp_path.iterdir())


class Events(dict):
    def __missing__(self, key):
        return self.setdefault(key, SimpleNamespace(extra=None))


def test_the_operator_stores_skips_and_tells_the_asset(tmp_path, capfd, caplog):
    caplog.set_level("INFO")
    results = tmp_path / "staging"
    results.mkdir()
    (results / "a.txt").write_text("one")
    sha = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    listed = Manifest.build("job", f"file://{results}", [ManifestFile("a.txt", 3, sha, 5)])
    (tmp_path / "manifest.json").write_bytes(listed.to_json())
    run = {"state": "succeeded", "job_id": "job", "manifest": f"file://{tmp_path}/manifest.json"}

    def store(source, name="out", **options):
        events = Events()
        step = DaskStoreResultsOperator(task_id="s", source=source, destination=f"{tmp_path}/{name}", **options)
        result = step.execute({"outlet_events": events})
        (event,) = events.values()
        assert event.extra == {n: result[n] for n in ("uri", "files", "bytes", "rows", "version")}
        json.dumps(result)
        return result

    first = store(run)
    assert first == stored(f"file://{tmp_path}/out/").to_dict() | {"version": listed.content, "rows": 5}

    def logged():  # Airflow 3 writes to the standard output, Airflow 2 through logging
        return capfd.readouterr().out + caplog.text

    assert "stored 1 files, 3 B" in logged()
    assert (tmp_path / "out" / "a.txt").read_text() == "one"
    assert store(run) == first
    assert "stored already" in logged()

    (results / "a.txt").write_text("two")  # what a cleared staging area or another job would leave
    assert store(run, skip_if_stored=True) == first
    assert store({"state": "succeeded", "stored": first}) == first
    with pytest.raises(InvalidInput, match=r"source: .*a\.txt.*was changed or damaged"):
        store(run, "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    assert store({"state": "succeeded", "stored": first}, "elsewhere")["version"] == first["version"]
    assert pickle.loads(pickle.dumps(InvalidInput("a", "b", "c"))).field == "a"
