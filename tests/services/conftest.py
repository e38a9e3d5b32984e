"""Services on loopback that the real clients talk to."""

import bigquery_server
import gcs_server
import pytest


@pytest.fixture
def gcs(monkeypatch):
    """Google Cloud Storage; gcsfs finds it by STORAGE_EMULATOR_HOST."""
    running, server = gcs_server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
    yield running
    gcs_server.stop(running, server)


@pytest.fixture
def cloud():
    """A site's `cloud` section with timeouts fit for a test."""
    return {
        "billing_project": gcs_server.PROJECT,
        "images_url": f"gs://{gcs_server.BUCKET}",
        "connect_timeout": 2,
        "read_timeout": 0.7,
        "deadline": 8,
        "requests_in_flight": 8,
    }


@pytest.fixture
def bigquery(monkeypatch):
    """BigQuery; its client finds it by BIGQUERY_EMULATOR_HOST."""
    running, server = bigquery_server.start()
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", running.url)
    yield running
    running.stopping.set()
    server.shutdown()
    server.server_close()
