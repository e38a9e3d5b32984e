"""Files of a hub data set at a commit, fetched once and shared by studies."""

import logging
import shutil
from pathlib import Path

from peft_ablation.artifacts import whole_file
from peft_ablation.data.hub import hub_errors
from peft_ablation.errors import InputError, near_miss

log = logging.getLogger(__name__)


def fetch_file(identity: str, revision: str, file: str, output: str | Path) -> None:
    """Download one file of a hub data set at a commit to `output`, whole or not at all.

    Raises `InputError` for a data set that does not exist or is gated, a revision or a file that
    it does not have, and a hub that cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(
        "data.hub.id", "data.hub.revision", "data set", identity, revision,
        rule="fetch_data", instead="give the files without data.hub",
    ):  # fmt: skip
        found = api.dataset_info(identity, revision=revision, timeout=30)
        names = sorted(entry.rfilename for entry in found.siblings or ())
        if file not in names:
            raise InputError(
                f"data.files: {identity} at {revision} has no {file!r}, found "
                f"{_first(names)}{near_miss(file, names)}"
            )
        if found.sha != revision:
            log.warning("data.hub.revision: %s may move; pin %s", revision, found.sha)
        with whole_file(output) as part:
            folder = part.with_suffix(".download")
            try:
                path = api.hf_hub_download(
                    identity, file, repo_type="dataset", revision=found.sha, local_dir=folder
                )
                shutil.move(path, part)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def _first(names: list[str], shown: int = 20) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "no file") + more
