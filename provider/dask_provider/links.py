"""Links on a task's page. Their URL is pushed as soon as it is known; showing one never raises."""

from __future__ import annotations

from typing import Any, ClassVar

from dask_provider._compat import BaseOperatorLink, xcom_of_link


class _PushedLink(BaseOperatorLink):
    """A link whose URL lies in an XCom."""

    key: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        """Where Airflow 3 looks for the URL."""
        return self.key

    @classmethod
    def push(cls, ti: Any, url: str | None) -> None:
        """Make the link known; an empty URL is no link."""
        ti.xcom_push(key=cls.key, value=url or "")

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The pushed URL, or nothing."""
        try:
            return str(xcom_of_link(ti_key, self.key) or "")
        except Exception:  # noqa: BLE001  a link must never break a page
            return ""


class DaskDashboardLink(_PushedLink):
    """Dask's own page of the cluster."""

    name = "Dask dashboard"
    key = "dask_dashboard"


class DaskResultsLink(_PushedLink):
    """Where the job's results lie."""

    name = "Results"
    key = "dask_results"


class DaskReportLink(_PushedLink):
    """Dask's performance report of the job."""

    name = "Performance report"
    key = "dask_report"
