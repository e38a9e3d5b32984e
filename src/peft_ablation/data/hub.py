"""What a hub repository refuses, as one line each."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft_ablation.errors import InputError

HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests")
"""huggingface_hub lets errors of its HTTP library through where nothing answers."""


@contextmanager
def hub_errors(
    key: str, revision_key: str, kind: str, identity: str, revision: str, *, rule: str, instead: str
) -> Iterator[None]:
    """Raise what fails while a repository is read as `InputError`.

    `key` and `revision_key` are those of the study that name it, `kind` what it is (`model`, `data
    set`), `rule` what to run where the hub can be reached, `instead` what else a person can do.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise InputError(
            f"{key}: {identity} is gated: ask for access on its page of the hub, log in with "
            f"`hf auth login` and run {rule} again"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"{key}: the hub has no {kind} {identity!r} that you may read") from None
    except RevisionNotFoundError:
        raise InputError(
            f"{revision_key}: {identity} has no {revision!r}; pin a commit, from the page Files "
            f"and versions of the {kind}"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(key, identity, error, rule, instead) from None
    except Exception as error:
        if type(error).__module__.split(".")[0] not in HTTP_LIBRARIES:
            raise
        raise _unreachable(key, identity, error, rule, instead) from None


def _unreachable(key: str, identity: str, error: Exception, rule: str, instead: str) -> InputError:
    reason = (str(error).splitlines() or [""])[0][:160]
    return InputError(
        f"{key}: {identity} could not be fetched ({type(error).__name__}: {reason}); run {rule} "
        f"where the hub can be reached, or {instead}"
    )
