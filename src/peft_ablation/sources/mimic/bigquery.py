"""One query on BigQuery: parameters by name, a limit on what it may bill, an end in any case."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from peft_ablation.data.google_access import (
    ACCESS_PAGE,
    LOG_IN,
    billing_project,
    cloud_settings,
    credentials,
    scrubbed,
)
from peft_ablation.errors import InputError

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")

# What a waiting reader grants beyond the deadline that retries keep by themselves.
GRACE_SECONDS = 1.0
SCOPE = "https://www.googleapis.com/auth/bigquery"


def run_query(
    sql: str, parameters: Mapping[str, list[str] | int | None], cloud: Mapping[str, Any]
) -> "pyarrow.Table":
    """Run a query and return its rows.

    A list becomes an array of strings, an integer or None an INT64. Never bills more than
    `cloud.maximum_bytes_billed`, never takes longer than `cloud.deadline` seconds. Credentials
    are application-default; BIGQUERY_EMULATOR_HOST points elsewhere.

    Raises `InputError` with the cause and what to do: no credentials, no billing project, no
    access, no such table, a limit reached, no answer.
    """
    settings = cloud_settings(cloud)
    client = _client(settings)
    config = _job_config(parameters, settings, dry_run=False)

    def rows() -> "pyarrow.Table":
        job = _start(client, sql, config, settings)
        result = job.result(retry=_retry(settings), job_retry=None)
        # The Storage API ignores the endpoint and needs a permission of its own.
        table = result.to_arrow(create_bqstorage_client=False)
        if table.num_rows != result.total_rows:
            raise InputError(
                f"BigQuery: job {job.job_id} answered {table.num_rows} of {result.total_rows} "
                "rows; run the same command again"
            )
        return table

    return _within(rows, "query", settings)


def bytes_scanned(
    sql: str, parameters: Mapping[str, list[str] | int | None], cloud: Mapping[str, Any]
) -> int:
    """Return the bytes that the query would scan, from a dry run, which bills nothing."""
    settings = cloud_settings(cloud)
    client = _client(settings)
    config = _job_config(parameters, settings, dry_run=True)
    return _within(
        lambda: int(_start(client, sql, config, settings).total_bytes_processed),
        "dry run of the query",
        settings,
    )


def _client(settings: Mapping[str, Any]) -> Any:
    from google.cloud import bigquery

    project = billing_project(settings)
    found = credentials(SCOPE, "BIGQUERY_EMULATOR_HOST")
    host = os.environ.get("BIGQUERY_EMULATOR_HOST")
    options = {"api_endpoint": host} if host else None
    return bigquery.Client(project=project, credentials=found, client_options=options)


def _job_config(
    parameters: Mapping[str, list[str] | int | None], settings: Mapping[str, Any], *, dry_run: bool
) -> Any:
    from google.cloud import bigquery

    typed = [
        bigquery.ArrayQueryParameter(name, "STRING", value)
        if isinstance(value, list)
        else bigquery.ScalarQueryParameter(name, "INT64", value)
        for name, value in parameters.items()
    ]
    return bigquery.QueryJobConfig(
        query_parameters=typed,
        dry_run=dry_run,
        # A dry run answered from the cache would tell 0 bytes.
        use_query_cache=not dry_run,
        maximum_bytes_billed=settings["maximum_bytes_billed"],
    )


def _retry(settings: Mapping[str, Any]) -> Any:
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    # The default goes on for ten minutes whatever the caller's timeout.
    return DEFAULT_RETRY.with_timeout(settings["deadline"]).with_delay(
        initial=0.5, maximum=10, multiplier=2
    )


def _start(client: Any, sql: str, config: Any, settings: Mapping[str, Any]) -> Any:
    return client.query(
        sql,
        job_config=config,
        timeout=settings["read_timeout"],
        retry=_retry(settings),
        job_retry=None,
    )


def _within(work: Callable[[], T], what: str, settings: Mapping[str, Any]) -> T:
    """Return `work()`, or raise its failure in one line, at the latest at the deadline.

    A stalled page is cut by no timeout of the client, so the work runs in a thread that is left
    behind; it is a daemon and cannot keep the process alive.
    """
    outcome: list[T] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(settings["deadline"] + GRACE_SECONDS)
    if failure and isinstance(failure[0], InputError):
        raise failure[0]
    if failure:
        raise explain_failure(failure[0], what, settings) from None
    if not outcome:
        raise InputError(
            f"BigQuery: the {what} gave no answer within cloud.deadline "
            f"({settings['deadline']:g} s); run the same command again, or raise cloud.deadline"
        )
    return outcome[0]


def explain_failure(error: Exception, what: str, settings: Mapping[str, Any]) -> InputError:
    """Return the one line for a failed query: cause, and what to do."""
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, api.RetryError) and isinstance(error.cause, Exception):
        error = error.cause
    details = getattr(error, "errors", None) or [{}]
    reason = str(details[0].get("reason", "")) if isinstance(details[0], dict) else ""
    said = scrubbed(getattr(error, "message", None) or error, settings)
    tables = f"{settings['metadata_table']}, {settings['chexpert_table']}"
    text = f"{reason} {said}".lower()
    if isinstance(error, GoogleAuthError | api.Unauthorized):
        return InputError(f"BigQuery: the credentials were refused; {LOG_IN}")
    if isinstance(error, OSError) and "Connect" in type(error).__name__:
        return InputError(
            f"BigQuery: no connection ({type(error).__name__}); check the network (compute nodes "
            "often have none), then run the same command again"
        )
    if reason == "bytesBilledLimitExceeded" or "bytes billed" in text:
        return InputError(
            f"BigQuery: the {what} would bill more than cloud.maximum_bytes_billed "
            f"({settings['maximum_bytes_billed']:,} bytes), nothing was billed ({said}); raise the "
            "key if you accept the price"
        )
    if "quota" in text or reason == "rateLimitExceeded":
        return InputError(
            f"BigQuery: a quota of the billing project is used up ({said}); wait, or raise it in "
            "the project's quota page, then run the same command again"
        )
    if "billing" in text:
        return InputError(
            f"BigQuery: nobody is billed for the {what} ({said}); set cloud.billing_project to a "
            "project with billing that you may use"
        )
    if isinstance(error, api.Forbidden):
        return InputError(
            f"BigQuery: access denied to {tables} or to run jobs in cloud.billing_project (403: "
            f"{said}); request access to the data set at {ACCESS_PAGE}"
        )
    if isinstance(error, api.NotFound):
        return InputError(
            f"BigQuery: not found (404: {said}); check cloud.metadata_table and "
            f"cloud.chexpert_table ({tables}), and cloud.billing_project"
        )
    if isinstance(error, api.BadRequest):
        return InputError(
            f"BigQuery: the {what} was refused (400: {said}); check that {tables} have the columns "
            "of resources/query_metadata.sql"
        )
    code = getattr(error, "code", None)
    cause = f"answered {int(code)}" if code is not None else f"failed, {type(error).__name__}"
    return InputError(
        f"BigQuery: the {what} {cause} to every try within cloud.deadline "
        f"({settings['deadline']:g} s) ({said}); run the same command again"
    )
