"""Open a model: a hub id, a local folder, a `.gguf` file, or `atlas`; the same checks and the same form for all.

Safetensors or GGUF only, never a pickle; no remote code; dtype and device explicit; eager attention, since the
other kernels return no pattern and one kernel for everything keeps numbers comparable.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from data import atlas
from data.errors import InputError
from data.paths import user_path
from probes.bake import open_checkpoint_dense
from probes.families import family_of
from probes.hosted import HubName, remember_hub
from probes.spreading import SPREAD, spread

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TWIN = "atlas-twin"
BUNDLED = {"atlas": atlas.FOLDER / "model", TWIN: atlas.FOLDER / "twin"}
GGUF_MAGIC = b"GGUF"
UNREADABLE = (ValueError, OSError, LookupError, RuntimeError, ImportError, SafetensorError, struct.error)
"""What the libraries raise at files that are cut short, damaged or of another kind."""


@dataclass(frozen=True)
class OpenedModel:
    """A model with its tokenizer and what is to be said wherever it is shown."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    note: str
    """Empty, or a sentence such as that the "dense" weights were dequantised from a file."""
    sha: str
    """Hash of the files that it was read from."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files are, and the hash of those that shape it."""

    folder: Path
    gguf: str | None
    sha: str

    @property
    def note(self) -> str:
        """What has to be said wherever numbers of this model stand; empty for plain weights."""
        if self.gguf is None:
            return ""
        return f'"dense" here is the file {self.gguf}, dequantised: not the weights it was made from'


def locate(name: str, *, here: bool = False) -> ModelSource:
    """Find a model's files, downloading a hub id's unless they have to be `here` already, without opening them.

    Raises:
        InputError: no such model, a name that none can have, no weights, a pickle, or a file of the wrong type.
    """
    hub = hub_name(name)
    if hub is not None:
        return _local_folder(_download(name, hub, here))
    if name in BUNDLED:
        return _local_folder(BUNDLED[name])
    path = user_path(name)
    if path.is_file() or path.suffix == ".gguf":
        return _gguf_file(path)
    if path.is_dir():
        return _local_folder(path)
    raise InputError(f"model '{name}': there is no such folder or file")


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


def _gguf_file(path: Path) -> ModelSource:
    """A GGUF file, known by its first bytes, with what lies beside it: a tokenizer there is read instead of its own."""
    if not path.is_file():
        raise InputError(f"model '{path}': there is no such GGUF file")
    with path.open("rb") as file:
        if file.read(4) != GGUF_MAGIC:
            raise InputError(f"model '{path}': not a GGUF file; give a .gguf file, a folder, a hub id or 'atlas'")
    return ModelSource(path.parent, path.name, _sha([*_described(path.parent), path]))


def _local_folder(folder: Path) -> ModelSource:
    """A folder in Hugging Face's form."""
    if not (folder / "config.json").is_file():
        raise InputError(f"model '{folder}': the folder has no config.json, so it is not a saved model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickles:
            raise InputError(
                f"model '{folder}': its weights ({pickles[0].name}) are a pickle, which is never opened: save "
                "the model as safetensors, or name a revision that has them (model@revision)"
            )
        raise InputError(f"model '{folder}': the folder holds no weights (*.safetensors)")
    return ModelSource(folder, None, _sha(sorted([*_described(folder), *weights])))


def _described(folder: Path) -> list[Path]:
    """What a folder says of its model and tokenizer."""
    return sorted([*folder.glob("*.json"), *folder.glob("*.model"), *folder.glob("*.txt")])


def _download(name: str, hub: HubName, here: bool) -> Path:
    """The snapshot of a hub id (`owner/name` or `owner/name@revision`), from the cache where it is there."""
    patterns = ["*.safetensors", "*.json", "*.model", "*.txt"]
    try:
        return Path(
            snapshot_download(hub.repository, revision=hub.revision, allow_patterns=patterns, local_files_only=here)
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


def outline(name: str, shape: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """A model without its weights (on torch's meta device), from its files' configuration or from a shape.

    A shape is written in the words of a Hugging Face configuration, `model_type` among them.

    Raises:
        InputError: no such model, or a shape that makes none.
    """
    if shape is None:
        config = _config(locate(name))
    else:
        try:
            config = AutoConfig.for_model(**shape)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"shape of '{name}' makes no configuration: {' '.join(str(error).split())[:200]}"
            ) from None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    family_of(model)
    return model


def open_model(name: str, *, dtype: str, device: str) -> OpenedModel:
    """Open a model in evaluation mode, its parameters frozen.

    Raises:
        InputError: naming what is missing or unsupported.
    """
    source = locate(name)
    check_place(dtype, device)
    chatter = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, tokenizer = _read(source, DTYPES[dtype])
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"model '{name}' does not open: {reason}") from error
    finally:
        transformers.logging.set_verbosity(chatter)
    family_of(model)
    model.requires_grad_(False)
    if device == SPREAD:
        spread(model)
    else:
        model.to(torch.device(device))  # type: ignore[arg-type]  # a decorator hides the signature
    hub = hub_name(name)
    if hub is not None and not _is_quantised(_config(source)):  # else its weights were made dense here
        remember_hub(model, hub)
    return OpenedModel(model.eval(), tokenizer, source.note, source.sha)


def config_of(name: str) -> PretrainedConfig:
    """A model's configuration, its weights unread.

    Raises:
        InputError: there is no such model, or its configuration does not open.
    """
    source = locate(name)
    try:
        return _config(source)
    except UNREADABLE as error:
        raise InputError(f"model '{name}' does not open: {str(error).strip().splitlines()[0]}") from error


def _config(source: ModelSource) -> PretrainedConfig:
    given = {"gguf_file": source.gguf} if source.gguf else {}
    return AutoConfig.from_pretrained(source.folder, trust_remote_code=False, **given)


def _is_quantised(config: PretrainedConfig) -> bool:
    return getattr(config, "quantization_config", None) is not None


def check_place(dtype: str, device: str) -> None:
    """Refuse a dtype or device that is not there before anything is read.

    Raises:
        InputError: naming it and what to set.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype '{dtype}' is not one of {', '.join(DTYPES)}")
    try:
        torch.device("cuda" if device == SPREAD else device)
    except RuntimeError:
        raise InputError(f"device '{device}' is none that torch knows: set device: cpu, cuda or auto") from None
    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"device '{device}': this machine has no usable GPU; set device: cpu")


def _read(source: ModelSource, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Weights and tokenizer; a quantised file becomes a plain dense model with a clean configuration."""
    gguf = {"gguf_file": source.gguf} if source.gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, **gguf)
    if _is_quantised(_config(source)) and not source.gguf:
        model = open_checkpoint_dense(source.folder, dtype)
        model.set_attn_implementation("eager")
        return model, tokenizer
    read: Any = AutoModelForCausalLM.from_pretrained(
        source.folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="eager",
        output_loading_info=True,
        **gguf,
    )
    model, told = read
    if told["missing_keys"]:
        # The library draws them at random and goes on.
        absent = sorted(told["missing_keys"])
        raise InputError(
            f"model '{source.folder}': its weights lack {len(absent)} tensors ({absent[0]}): save the model again"
        )
    return (_clean(model) if source.gguf else model), tokenizer


def _clean(model: PreTrainedModel) -> PreTrainedModel:
    """Move dequantised weights into a model whose configuration does not call itself quantised."""
    stored = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    config = type(model.config).from_dict(stored)
    # Made in its dtype, not cast to it: a cast would round the rotary frequencies too, which stay fp32.
    fresh = type(model)._from_config(config, dtype=model.dtype, attn_implementation="eager")
    fresh.load_state_dict(model.state_dict())
    fresh.tie_weights()
    return fresh
