"""Where a model's files are: in a folder, in one file, or on the hub; and the hash of those that shape it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import list_repo_files, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from data import atlas
from data.errors import InputError
from data.paths import user_path
from probes.gguf_files import GGUF_MAGIC
from probes.hosted import HubName
from probes.stored import pickled, require_safetensors

TWIN = "atlas-twin"
BUNDLED = {"atlas": atlas.FOLDER / "model", TWIN: atlas.FOLDER / "twin"}
SMALL = ("*.json", "*.model", "*.txt", "*.jinja")
"""The files of a model that are no weights and are read."""
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files are, and the hash of those that shape it."""

    folder: Path
    gguf: str | None
    sha: str


def note_of(gguf: str | None) -> str:
    """What has to be said of a model that is read from this GGUF file; empty where it is read from none."""
    if gguf is None:
        return ""
    return f'"dense" here is the file {gguf}, dequantised: not the weights it was made from'


def on_disk(name: str) -> tuple[Path, str | None]:
    """The folder of a model on this machine, and its GGUF file's name where it is one."""
    if name in BUNDLED:
        return BUNDLED[name], None
    path = user_path(name)
    if path.is_file() or path.suffix == ".gguf":
        _require_gguf(path)
        return path.parent, path.name
    if not path.is_dir():
        raise InputError(f"model '{name}': there is no such folder or file")
    require_config(path)
    require_safetensors(path)
    return path, None


def hub_name(name: str) -> HubName | None:
    """The repository that a name means; None where it means a bundled model, a folder or a file.

    Raises:
        InputError: neither can be called so.
    """
    path = user_path(name)
    local = name in BUNDLED or path.exists() or path.suffix == ".gguf"
    if local or path.is_absolute() or name.startswith(".") or name.count("/") > 1:
        return None
    return HubName.parse(name)


def _require_gguf(path: Path) -> None:
    """A GGUF file is known by its first bytes."""
    if not path.is_file():
        raise InputError(f"model '{path}': there is no such GGUF file")
    with path.open("rb") as file:
        if file.read(4) != GGUF_MAGIC:
            raise InputError(f"model '{path}': not a GGUF file; give a .gguf file, a folder, a hub id or 'atlas'")


def require_config(folder: Path) -> None:
    """Refuse a folder without a configuration."""
    if not (folder / "config.json").is_file():
        raise InputError(f"model '{folder}': the folder has no config.json, so it is not a saved model")


def source_of(folder: Path, gguf: str | None) -> ModelSource:
    """A model's files with their hash; what lies beside a GGUF file counts, since a tokenizer there is read."""
    if gguf is not None:
        return ModelSource(folder, gguf, _sha([*_described(folder), folder / gguf]))
    require_config(folder)
    require_safetensors(folder)
    return ModelSource(folder, None, _sha(sorted([*_described(folder), *folder.glob(WEIGHTS)])))


def _described(folder: Path) -> list[Path]:
    """What a folder says of its model and tokenizer."""
    return sorted(path for pattern in SMALL for path in folder.glob(pattern))


def check_listed(name: str, hub: HubName) -> None:
    """Refuse a repository without safetensors before they are looked for on this machine.

    Out of reach, what was downloaded before is all there is, and shows itself when it is opened.
    """
    try:
        files = list_repo_files(hub.repository, revision=hub.revision)
    except (HfHubHTTPError, HFValidationError, OSError):
        return
    if not any(file.endswith(".safetensors") for file in files):
        pickles = [file for file in files if file.endswith((".bin", ".pt", ".pth"))]
        if pickles:
            raise pickled(name, pickles[0])
        raise InputError(f"model '{name}': the repository holds no weights ({WEIGHTS})")


def download(name: str, hub: HubName, here: bool, patterns: Sequence[str]) -> Path:
    """The snapshot of a hub id (`owner/name` or `owner/name@revision`), from the cache where it is there."""
    try:
        return Path(
            snapshot_download(
                hub.repository, revision=hub.revision, allow_patterns=list(patterns), local_files_only=here
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise InputError(
            f"model '{name}': neither a local folder or file nor a hub model that can be reached "
            f"({type(error).__name__}); check the name and the connection"
        ) from None


def _sha(paths: list[Path]) -> str:
    """Hash of names and contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
