"""Plain jobs: a Job without a Dask cluster, submitted and found as other jobs are, and then followed as they are."""

from __future__ import annotations

from dask_provider.clusters.kubernetes_job import KubernetesJob
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.handles import JobHandle
from dask_provider.hooks.kubernetes import plain_manifests
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.jobs import create_job, job_handle, jobs_of, let_go, take_over
from dask_provider.hooks.kubernetes.questions import access_of
from dask_provider.owner import Attempt, Owner


async def submit(spec: KubernetesJob, owner: Owner, attempt: Attempt) -> JobHandle:
    """Start the job, or adopt it: see :meth:`dask_provider.hooks.base.ClusterHook.submit`.

    :raises InvalidInput: for what the API server would never take.
    """
    access = await access_of(spec.conn_id)
    namespace = _namespace(spec, access)
    wanted = plain_manifests.job(spec, owner, attempt, namespace=namespace)
    digest, job_id = plain_manifests.spec_hash(spec), wanted["metadata"]["name"]
    async with Client(access) as k:
        try:
            adopted = await take_over(k, namespace, owner, digest, attempt, job_id)
            made = adopted or await create_job(k, namespace, wanted, owner, attempt)
            if plain_manifests.waits_for_us(made):
                await let_go(k, made, attempt)
        except ApiError as error:
            if error.status == 404 and error.details.get("kind") == "namespaces":
                raise InvalidInput(
                    "KubernetesJobOperator.namespace", namespace, f"a namespace that exists ({error})"
                ) from error
            if error.status in (400, 422):
                raise InvalidInput("KubernetesJobOperator", job_id, f"what Kubernetes takes: {error}") from error
            if error.status == 403:
                raise ClusterFailed(f"the Job {job_id} cannot be created in namespace {namespace}: {error}") from error
            raise
    return job_handle(spec.conn_id, made, adopted=adopted is not None)


async def find(spec: KubernetesJob, owner: Owner) -> JobHandle | None:
    """The newest job of an owner, for whoever has nothing but ids."""
    access = await access_of(spec.conn_id)
    async with Client(access) as k:
        found = await jobs_of(k, _namespace(spec, access), owner)
    return job_handle(spec.conn_id, found[0]) if found else None


def _namespace(spec: KubernetesJob, access: Access) -> str:
    return spec.namespace or access.namespace or "default"
