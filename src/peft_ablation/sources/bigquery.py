"""MIMIC-CXR-JPG, from BigQuery and Google Cloud Storage, whatever the site has on disk."""

from typing import Any

from peft_ablation.sources.mimic import Mimic


class BigQuery(Mimic):
    """Rows by a query, images from the bucket."""

    @property
    def root(self) -> str | None:
        """None: images come from the cloud."""
        return None

    @property
    def cloud(self) -> dict[str, Any] | None:
        """Settings of Google Cloud."""
        return self.site.cloud.model_dump(mode="json")


SOURCE = BigQuery
