"""Open a model: a hub id, a local folder, a `.gguf` file, or `atlas`; the same checks and the same form for all.

Safetensors or GGUF only, never a pickle; no remote code; dtype and device explicit; eager attention, since the
other kernels return no pattern and one kernel for everything keeps numbers comparable.

A model is looked at before it is opened: whatever its small files tell, family, form and what its weights hold among
it, is refused before a weight is read or downloaded.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from data.errors import InputError
from probes.checkpoints import Quantisation, open_checkpoint_dense, quantisation_of
from probes.families import family_of, require_supported
from probes.gguf_config import gguf_configuration
from probes.gguf_files import GgufFile, read_gguf
from probes.gguf_tokenizers import gguf_tokenizer
from probes.hosted import remember_hub
from probes.model_files import (
    BUNDLED,
    SMALL,
    TWIN,
    WEIGHTS,
    ModelSource,
    check_listed,
    download,
    hub_name,
    note_of,
    on_disk,
    require_config,
    source_of,
)
from probes.spreading import SPREAD, spread
from probes.stored import check_read, check_stored, stored_in

__all__ = [
    "BUNDLED",
    "DTYPES",
    "TWIN",
    "Found",
    "ModelSource",
    "OpenedModel",
    "Outlook",
    "check_place",
    "config_of",
    "find",
    "hub_name",
    "locate",
    "look",
    "open_model",
    "open_weights",
    "outline",
    "outline_of",
]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Of which one beside a GGUF file is read instead of the tokenizer that the file holds."""
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
    read_beside: tuple[str, ...] = ()
    """What of the files was read beside the weights and a plain configuration, as sentences."""


@dataclass(frozen=True)
class Outlook:
    """What a model's small files say of it, before a weight is read or downloaded."""

    name: str
    """As the user calls it."""
    folder: Path
    """Where its files are; of a hub's model only the small ones may be there yet."""
    gguf: GgufFile | None
    """The header of its file, where it is a GGUF."""
    config: PretrainedConfig
    """Its configuration, whatever it was read from."""
    quantisation: Quantisation | None
    """How its weights are quantised; None for plain ones, and for a GGUF, which says it of every tensor."""
    read_beside: tuple[str, ...]
    """What was read beside the weights and a plain configuration, as sentences."""
    left_out: frozenset[str] = frozenset()
    """Tensors in its files that an older library stored and that the model makes itself."""

    @property
    def model_type(self) -> str:
        """Its family, which is a supported one."""
        return str(self.config.model_type)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Open its tokenizer.

        Raises:
            InputError: it has none, or it does not open.
        """
        return _opened_tokenizer(self)[0]


@dataclass(frozen=True)
class Found:
    """A model whose files are all on this machine, its tokenizer opened and its weights unread."""

    outlook: Outlook
    tokenizer: PreTrainedTokenizerBase
    note: str
    """Empty, or a sentence such as that the "dense" weights were dequantised from a file."""
    read_beside: tuple[str, ...]
    """What of the files is read beside the weights and a plain configuration, as sentences."""


def locate(name: str, *, here: bool = False) -> ModelSource:
    """Find a model's files, downloading a hub id's unless they have to be `here` already, without opening them.

    Raises:
        InputError: no such model, a name that none can have, no weights, a pickle, or a file of the wrong type.
    """
    if hub_name(name) is not None and not here:
        look(name)
    return _whole(name, here=here)


def _whole(name: str, *, here: bool = False) -> ModelSource:
    """All of a model's files, that were looked at before."""
    hub = hub_name(name)
    place = on_disk(name) if hub is None else (download(name, hub, here, (*SMALL, WEIGHTS)), None)
    return source_of(*place)


def look(name: str) -> Outlook:
    """Read a model's small files, downloading a hub id's, and refuse what they show cannot be opened.

    Raises:
        InputError: no such model; or its file types, family, quantisation, keys or tensors do not fit, named.
    """
    hub = hub_name(name)
    if hub is None:
        folder, gguf = on_disk(name)
    else:
        folder, gguf = download(name, hub, False, SMALL), None
        require_config(folder)
        check_listed(name, hub)
    if gguf is not None:
        return _look_gguf(name, folder, gguf)
    return _look_folder(name, folder, weights=hub is None)


def _look_gguf(name: str, folder: Path, file: str) -> Outlook:
    with _in_one_line(name):
        header = read_gguf(folder / file)
        config, told = gguf_configuration(header)
        return Outlook(name, folder, header, config, None, told)


def _look_folder(name: str, folder: Path, *, weights: bool) -> Outlook:
    with _in_one_line(name):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        require_supported(config.model_type)
        quantisation = quantisation_of(name, folder)
        left = check_stored(name, folder, config, quantised=quantisation is not None) if weights else {}
        told = [f"{count} {kind}" for kind, count in Counter(left.values()).items()]
        if code := getattr(config, "auto_map", None):
            told.append(
                f"its own code ({', '.join(sorted(code))}) is not run: it is read as a {config.model_type} model"
            )
        return Outlook(name, folder, None, config, quantisation, tuple(told), frozenset(left))


@contextmanager
def _in_one_line(name: str, raised: tuple[type[Exception], ...] = UNREADABLE) -> Iterator[None]:
    """Make one line of what a library says of a model's files that it cannot read."""
    try:
        yield
    except InputError:
        raise
    except raised as error:
        said = str(error).strip()
        reason = said.splitlines()[0] if said else type(error).__name__
        raise InputError(f"model '{name}' does not open: {reason}") from error


def outline(name: str, shape: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """A model without its weights (on torch's meta device), from its files' configuration or from a shape.

    A shape is written in the words of a Hugging Face configuration, `model_type` among them.

    Raises:
        InputError: no such model, or a shape that makes none.
    """
    if shape is None:
        config = look(name).config
    else:
        try:
            config = AutoConfig.for_model(**shape)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"shape of '{name}' makes no configuration: {' '.join(str(error).split())[:200]}"
            ) from None
    return outline_of(config)


def outline_of(config: PretrainedConfig) -> PreTrainedModel:
    """The model of a configuration, without weights (on torch's meta device).

    Raises:
        InputError: it is of no supported family.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    family_of(model)
    return model


def find(name: str, dtype: str) -> Found:
    """Look at all of a model's files, downloading a hub id's, without reading a weight; `dtype` is what it is read in.

    Raises:
        InputError: what they show cannot be opened, named.
    """
    outlook = look(name)
    hub = hub_name(name)
    if hub is not None:
        outlook = _look_folder(name, download(name, hub, False, (*SMALL, WEIGHTS)), weights=True)
    return _found(outlook, dtype)


def _found(outlook: Outlook, dtype: str) -> Found:
    """What a model's files show, all of them there."""
    with _silent():
        tokenizer, told = _opened_tokenizer(outlook)
    note = note_of(None if outlook.gguf is None else outlook.gguf.path.name)
    return Found(outlook, tokenizer, note, (*outlook.read_beside, *told, *_narrowed(outlook, dtype)))


def open_model(name: str, *, dtype: str, device: str) -> OpenedModel:
    """Open a model in evaluation mode, its parameters frozen.

    Raises:
        InputError: naming what is missing or unsupported.
    """
    check_place(dtype, device)
    outlook, source = _looked_at(name)
    found = _found(outlook, dtype)
    with _silent():
        model = _opened_model(outlook, source, dtype, device)
    return OpenedModel(model, found.tokenizer, found.note, source.sha, found.read_beside)


def open_weights(name: str, *, dtype: str, device: str) -> tuple[PreTrainedModel, ModelSource]:
    """Open a model as `open_model` does, without its tokenizer: a ready checkpoint is asked with the dense model's.

    Raises:
        InputError: naming what is missing or unsupported.
    """
    check_place(dtype, device)
    outlook, source = _looked_at(name)
    with _silent():
        return _opened_model(outlook, source, dtype, device), source


def _looked_at(name: str) -> tuple[Outlook, ModelSource]:
    """What is to be opened, all of its files there; of a hub's model its weights' headers are looked at only now."""
    outlook = look(name)
    source = _whole(name)
    if hub_name(name) is not None:
        outlook = _look_folder(name, source.folder, weights=True)
    return outlook, source


@contextmanager
def _silent() -> Iterator[None]:
    """Silence the library while it reads."""
    chatter = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(chatter)


def config_of(name: str) -> PretrainedConfig:
    """A model's configuration, its weights unread.

    Raises:
        InputError: there is no such model, or its small files show that it cannot be opened.
    """
    return look(name).config


def _narrowed(outlook: Outlook, dtype: str) -> tuple[str, ...]:
    """A sentence where weights are stored more exactly than they are read."""
    if outlook.gguf is not None or outlook.quantisation is not None or dtype == "float32":
        return ()
    wider = sum(one.dtype in ("F32", "F64") for one in stored_in(outlook.folder).values())
    return (f"{wider} tensors are stored in float32 and were read in {dtype}",) if wider else ()


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


def _opened_tokenizer(outlook: Outlook) -> tuple[PreTrainedTokenizerBase, tuple[str, ...]]:
    """A model's tokenizer, and what was read with it; that beside a GGUF file goes before the file's own."""
    with _in_one_line(outlook.name, (Exception,)):  # which is what the tokenizers' library raises, bare
        if outlook.gguf is None:
            return AutoTokenizer.from_pretrained(outlook.folder, trust_remote_code=False), ()
        beside = [name for name in TOKENIZERS if (outlook.folder / name).is_file()]
        if not beside:
            return gguf_tokenizer(outlook.gguf)
        read = AutoTokenizer.from_pretrained(outlook.folder, trust_remote_code=False, config=outlook.config)
        return read, (f"the tokenizer is that of {beside[0]} beside the file, not the file's own",)


def _opened_model(outlook: Outlook, source: ModelSource, dtype: str, device: str) -> PreTrainedModel:
    """A model with its weights where it is to stand, frozen."""
    with _in_one_line(outlook.name):
        model = _read(outlook, source, DTYPES[dtype])
    family_of(model)
    model.requires_grad_(False)
    if device == SPREAD:
        spread(model)
    else:
        model.to(torch.device(device))  # type: ignore[arg-type]  # a decorator hides the signature
    hub = hub_name(outlook.name)
    if hub is not None and outlook.quantisation is None:  # else its weights were made dense here
        remember_hub(model, hub)
    return model.eval()


def _read(outlook: Outlook, source: ModelSource, dtype: torch.dtype) -> PreTrainedModel:
    """A model's weights; those of a quantised file become a plain dense model with a clean configuration."""
    if outlook.quantisation is not None:
        model = open_checkpoint_dense(source.folder, dtype)
        model.set_attn_implementation("eager")
        return model
    given = {} if outlook.gguf is None else {"gguf_file": source.gguf, "config": outlook.config}
    read: Any = AutoModelForCausalLM.from_pretrained(
        source.folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="eager",
        output_loading_info=True,
        **given,
    )
    model, told = read
    check_read(outlook.name, told, model, outlook.left_out)
    return without_quantisation(model) if outlook.gguf is not None else model


def without_quantisation(model: PreTrainedModel) -> PreTrainedModel:
    """Move dequantised weights into a model whose configuration does not call itself quantised."""
    stored = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    config = type(model.config).from_dict(stored)
    # Made in its dtype, not cast to it: a cast would round the rotary frequencies too, which stay fp32.
    fresh = type(model)._from_config(config, dtype=model.dtype, attn_implementation="eager")
    fresh.load_state_dict(model.state_dict())
    fresh.tie_weights()
    return fresh
