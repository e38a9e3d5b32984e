"""Who asks Google Cloud and who pays: credentials, billing project, and what to do without them."""

import os
import re
from collections.abc import Mapping
from typing import Any

from peft_ablation.errors import InputError

ACCESS_PAGE = "https://physionet.org/content/mimic-cxr-jpg/2.1.0/"
"""Where access to the data set's cloud copies is requested, by credentialed users."""
LOG_IN = "run: gcloud auth application-default login"


def cloud_settings(cloud: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return all keys of the site's `cloud` section, defaults filled in."""
    from peft_ablation.config.site import Cloud

    return Cloud.model_validate(dict(cloud or {})).model_dump()


def credentials(scope: str, emulator_variable: str) -> Any:
    """Return application-default credentials; anonymous ones if an emulator's variable is set.

    Raises `InputError` where there are none.
    """
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError

    if os.environ.get(emulator_variable):
        return AnonymousCredentials()
    try:
        found, _ = google.auth.default(scopes=[scope])
    # The message may quote the credentials file: only its kind is told.
    except (GoogleAuthError, OSError, ValueError) as error:
        raise InputError(
            f"Google Cloud: no usable application-default credentials ({type(error).__name__}); "
            f"{LOG_IN}; access to the data is requested at {ACCESS_PAGE}"
        ) from None
    return found


def billing_project(cloud: Mapping[str, Any]) -> str:
    """Return the project that pays; raise `InputError` where the site names none."""
    project = cloud.get("billing_project")
    if not project:
        raise InputError(
            "config: cloud.billing_project is not set, but queries and downloads are paid by the "
            "reader (requester pays); set it to the id of a Google Cloud project with billing"
        )
    return str(project)


def scrubbed(message: object, cloud: Mapping[str, Any] | None = None) -> str:
    """Return a service's message as one short line without accounts, projects and tokens."""
    text = " ".join(str(message).split())
    project = (cloud or {}).get("billing_project")
    if project:
        text = text.replace(str(project), "<project>")
    text = re.sub(r"[\w.+-]+@[\w.-]+", "<account>", text)
    text = re.sub(r"(?i)\b(bearer\s+\S+|ya29\.\S+|(access_)?token=\S+)", "<token>", text)
    text = re.sub(r"https?://\S+", "", text)
    return " ".join(text.split())[:200]
