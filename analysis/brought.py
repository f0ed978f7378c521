"""What was made elsewhere and is brought into a study: its bytes alone shape it, and may not change meanwhile."""

import hashlib
from pathlib import Path

from data.errors import InputError
from probes.adapter_folders import folder_sha
from probes.prompts import brought_prompts
from probes.specs.banks import BankSpec
from probes.specs.repairs import FolderSpec


def brought_sha(repair: FolderSpec | BankSpec) -> str:
    """Hash of what was made elsewhere.

    Raises:
        InputError: it is not there, or no bank of prompts.
    """
    if isinstance(repair, FolderSpec):
        return folder_sha(Path(repair.path).expanduser())
    files = [Path(file).expanduser() for file in repair.files]
    if len(brought_prompts(files)) < 2:
        raise InputError(f"bank of {repair.files[0]}: it holds one prompt, and a choice needs two or more")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def require_as_planned(repair: FolderSpec | BankSpec, sha: str) -> None:
    """Refuse what is no longer what it was when the study was planned; asked after it was read.

    Raises:
        InputError: it changed meanwhile.
    """
    if brought_sha(repair) != sha:
        place = repair.path if isinstance(repair, FolderSpec) else repair.files[0]
        raise InputError(f"'{place}', which a repair is brought from, changed while the study ran: start it again")
