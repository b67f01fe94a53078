"""What a job is, and whose, in the words of Dataproc."""

from __future__ import annotations

import random

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.hooks.dataproc.job_requests import job_request
from dask_provider.hooks.dataproc.requests import attempt_labels, attempt_of, cluster_request, job_properties, python
from dask_provider.jobs import Job, make_bundle
from dask_provider.owner import PLANNED, Attempt, Owner

OWNER = Owner("prod", "flights", "manual__2026-11-01", "etl")


def test_no_try_overtakes_itself() -> None:
    """Its start must not grow by being written down: it would take its own job for a newer try's."""
    for _ in range(1000):
        attempt = Attempt(2, fresh=False, last=False, started=random.uniform(1.7e9, 2e9))
        number, started = attempt_of({"labels": attempt_labels(attempt)})
        assert not attempt.is_overtaken_by(number, started)
        assert started == attempt.started
        later = Attempt(3, fresh=False, last=False, started=attempt.started + 0.001)
        assert attempt.is_overtaken_by(*attempt_of({"labels": attempt_labels(later)}))


def test_a_job_has_the_properties_that_its_cluster_s_spec_wants() -> None:
    wanted = {"spark.driver.memory": "8g", "spark.eventLog.enabled": "false"}
    spec = DataprocCluster(region="europe-west1", job_properties=wanted)
    versions = {"dask": "2026.8.0", "gcsfs": "2026.10.1"}
    scripts = {"dask": "gs://staging/dask.sh"}
    cluster = cluster_request(
        spec, OWNER, PLANNED, project_id="acme-data", scripts=scripts, bucket="b", versions=versions
    )
    bundle = make_bundle(Job(script=("work.py", b"print()")), OWNER, "gs://staging/")
    made = job_request(
        bundle,
        bundle.job_id(2),
        Attempt(2, fresh=False, last=False, started=1.5),
        cluster="c",
        main="gs://staging/job.py",
        python=python(cluster),
        labels={"team": "etl"},
        properties=job_properties(cluster) | {"spark.pyspark.python": "/usr/bin/python"},
    )
    assert made == {
        "job": {
            "reference": {"jobId": f"{OWNER.name}-2"},
            "placement": {"clusterName": "c"},
            "labels": {
                "team": "etl",
                "dask-provider-instance": "6754af9632a2745e",
                "dask-provider-owner": OWNER.name,
                "dask-provider-spec": bundle.spec_hash,
                "dask-provider-attempt": "2",
                "dask-provider-started": str(3 * 2**21),
            },
            "pysparkJob": {
                "mainPythonFileUri": "gs://staging/job.py",
                "properties": {
                    **wanted,
                    "spark.submit.deployMode": "client",
                    "spark.pyspark.python": "/opt/dask/bin/python",
                    "spark.pyspark.driver.python": "/opt/dask/bin/python",
                },
            },
        }
    }
