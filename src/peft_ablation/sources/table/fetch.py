"""Files of a hub data set at a commit, fetched once and shared by studies."""

import logging
import shutil
from pathlib import Path

from peft_ablation.artifacts import whole_file
from peft_ablation.errors import InputError, near_miss

log = logging.getLogger(__name__)

_PIN = "pin a commit, from the page Files and versions of the data set"


def fetch_file(identity: str, revision: str, file: str, output: str | Path) -> None:
    """Download one file of a hub data set at a commit to `output`, whole or not at all.

    Raises `InputError` for a data set that does not exist or is gated, a revision or a file that
    it does not have, and a hub that cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi()
    # huggingface_hub raises plain OSErrors, and its HTTP library errors of its own, offline.
    try:
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
    except GatedRepoError:
        raise InputError(
            f"data.hub.id: {identity} is gated: ask for access on its page of the hub, log in with "
            "`hf auth login` and run fetch_data again"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"data.hub.id: the hub has no data set {identity!r} that you may read"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"data.hub.revision: {identity} has no {revision!r}; {_PIN}") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(identity, error) from None
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "requests"):
            raise
        raise _unreachable(identity, error) from None


def _first(names: list[str], shown: int = 20) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "no file") + more


def _unreachable(identity: str, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [""])[0][:160]
    return InputError(
        f"data.hub.id: {identity} could not be fetched ({type(error).__name__}: {reason}); run "
        "fetch_data where the hub can be reached, or give the files without data.hub"
    )
