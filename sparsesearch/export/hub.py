"""Uploads exports to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils._validators import validate_repo_id

from sparsesearch.errors import first_line, problem

_LOGIN = "Log in with 'hf auth login', or set HF_TOKEN."


def check(repo: str) -> None:
    """Raise InputError SS508 (bad name, not logged in) or EnvironmentProblem SS311 (no hub), before any long work."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise problem("SS508", f"--push-to-hub {repo!r}: {first_line(error)}.", fix="Give ORG/NAME.") from None
    if "/" not in repo:
        raise problem("SS508", f"--push-to-hub {repo!r} has no organisation or user.", fix="Give ORG/NAME.")
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError:
        raise problem("SS508", "not logged in to the Hugging Face hub.", fix=_LOGIN) from None
    except Exception as error:  # from the hub, or from its HTTP client
        response = getattr(error, "response", None)
        if getattr(response, "status_code", None) in (401, 403):
            raise problem("SS508", "the Hugging Face hub does not accept the token.", fix=_LOGIN) from None
        raise problem("SS311", f"cannot reach the Hugging Face hub: {first_line(error)}.") from None


def push(directory: Path, repo: str, private: bool) -> str:
    """Upload an export to a model repository, which is created if it does not exist; return its address.

    Raises EnvironmentProblem SS311 if the upload fails; the directory is kept.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=directory, commit_message="Upload a model from sparsesearch")
    except Exception as error:  # from the hub, or from its HTTP client
        raise problem(
            "SS311",
            f"{directory} is written, but cannot be uploaded to {repo}: {first_line(error)}.",
            fix=f"Upload it later: hf upload {repo} {directory}",
        ) from None
    return str(url)
