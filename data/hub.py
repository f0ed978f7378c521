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
def commit_of(dataset: str) -> str:
    """The commit of a data set that stands on the hub now; out of its reach the one kept on this machine, or empty."""
    try:
        return str(HfApi().dataset_info(dataset, timeout=PATIENCE).sha or "")
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError):
        kept = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=dataset, repo_type="dataset") / "refs" / "main"
        return kept.read_text(encoding="utf-8").strip() if kept.is_file() else ""
