"""Which commit of a hub's data set a study reads, so that results are keyed by it."""

from functools import cache
from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.file_download import repo_folder_name

PATIENCE = 10.0
"""Seconds."""


@cache
def commit_of(dataset: str, revision: str = "main") -> str:
    """The commit that a branch or tag of a data set is on the hub now.

    Out of the hub's reach the one kept on this machine, or empty.
    """
    try:
        return str(HfApi().dataset_info(dataset, revision=revision, timeout=PATIENCE).sha or "")
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError):
        return _kept_commit(dataset, revision)


def _kept_commit(dataset: str, revision: str) -> str:
    """The commit that this machine's cache remembers a branch or tag by, or empty."""
    refs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=dataset, repo_type="dataset") / "refs"
    kept = refs / revision
    try:
        inside = kept.resolve().is_relative_to(refs.resolve())
        return kept.read_text(encoding="utf-8").strip() if inside else ""
    except (OSError, ValueError):  # none there, a name too long for a file, or no text
        return ""
