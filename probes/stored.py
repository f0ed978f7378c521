"""What a folder of safetensors holds, from the files' headers, against what its configuration has a place for.

The library opens a folder whose weights are more than the model asks for, and says so in a log that nobody reads. A
tensor without a place is a part of the model that was not read: it is refused here, before a weight is read.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from data.errors import InputError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PACKED = (
    *("weight_packed", "weight_shape", "weight_scale", "weight_zero_point", "weight_g_idx", "weight_global_scale"),
    *("weight_scale_inv", "qweight", "qzeros", "scales", "g_idx"),
)
"""What a quantised linear layer keeps beside or instead of its weight."""


@dataclass(frozen=True)
class Stored:
    """One tensor as the header of its file describes it."""

    shape: tuple[int, ...]
    dtype: str
    """As safetensors writes it: F32, BF16."""
    file: Path

    def read(self, name: str) -> Tensor:
        """Its numbers."""
        with safe_open(self.file, framework="pt") as file:
            return file.get_tensor(name)


def require_safetensors(folder: Path) -> None:
    """Refuse a folder that holds no weights to open, or two sets of them.

    Raises:
        InputError: naming what is there, a pickle above all.
    """
    if not any(folder.glob("*.safetensors")):
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickles:
            raise pickled(str(folder), pickles[0].name)
        raise InputError(f"model '{folder}': the folder holds no weights (*.safetensors)")
    there = [name for name in (WHOLE, INDEX) if (folder / name).is_file()]
    if not there:
        raise InputError(
            f"model '{folder}': of its weights neither {WHOLE} nor {INDEX} is there, which say what is the model: save "
            "it again"
        )
    if len(there) == 2:
        raise InputError(
            f"model '{folder}': both {WHOLE} and {INDEX} are there, and which of them is the model is unknown: delete "
            "the other"
        )
    if (folder / ADAPTER).is_file():
        raise InputError(
            f"model '{folder}': beside the model lies an adapter ({ADAPTER}), which would be put on it unasked: move "
            "it to a folder of its own, and name that as a repair"
        )


def pickled(name: str, file: str) -> InputError:
    """The sentence that refuses weights which are a pickle."""
    return InputError(
        f"model '{name}': its weights ({file}) are a pickle, which is never opened: save the model as safetensors, or "
        "name a revision that has them (model@revision)"
    )


def stored_in(folder: Path) -> dict[str, Stored]:
    """Every tensor that a folder's weights hold, by its name there.

    Raises:
        InputError: a file that the index names is not there, or a tensor stands in two files.
    """
    names = [WHOLE]
    if (folder / INDEX).is_file():
        told = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(told.values()))
    found: dict[str, Stored] = {}
    for path in (folder / name for name in names):
        if not path.is_file():
            raise InputError(f"model '{folder}': {INDEX} names {path.name}, which is not there: copy the model again")
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                if name in found:
                    raise InputError(f"model '{folder}': {name} stands in {found[name].file.name} and {path.name}")
                part = file.get_slice(name)
                found[name] = Stored(tuple(part.get_shape()), part.get_dtype(), path)
    return found


def check_stored(name: str, folder: Path, config: PretrainedConfig, *, quantised: bool) -> dict[str, str]:
    """Hold what a folder's weights are against what its configuration makes; return what is left out, with what it is.

    That is only what an older library stored and the model makes itself, alike to the last digit.

    Args:
        name: of the model, for sentences.
        folder: with its weights in safetensors.
        config: that of the folder.
        quantised: whether linear layers may be stored in other tensors than their weight.

    Raises:
        InputError: a tensor that has no place in the model, lacks, or is of another shape, named.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    made = {place: tuple(one.shape) for place, one in model.state_dict().items()}
    stored = stored_in(folder)
    placed = _placed(name, model, stored, made)
    strays = {key: stored[key] for key, place in placed.items() if place not in made}
    if quantised:
        strays = {key: one for key, one in strays.items() if not _is_packed(placed[key], made)}
    left = _leftovers(strays, model)
    if more := sorted(set(strays) - set(left)):
        raise _beyond(name, more)
    _check_complete(name, model, placed, made, quantised)
    for key, place in placed.items():
        if place in made and not quantised and stored[key].shape != made[place]:
            raise InputError(
                f"model '{name}': its weights' {key} is {stored[key].shape} and its configuration makes "
                f"{made[place]}: correct its config.json, or save the model again"
            )
    return {placed[key]: kind for key, kind in left.items()}


def _placed(name: str, model: PreTrainedModel, stored: Iterable[str], made: Mapping[str, Any]) -> dict[str, str]:
    """Where the library puts every stored tensor: names changed over the years, and a prefix comes and goes."""
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    prefix = model.base_model_prefix
    # Values stand for themselves: the library asks whether a place is None.
    known = dict.fromkeys(made, True)
    placed: dict[str, str] = {}
    for key in stored:
        place, _ = rename_source_key(key, renamings, converters, prefix, known)
        if place not in made and key in made:
            place, _ = rename_source_key(key, [], [], prefix, known)
        placed[key] = place
    by_place: dict[str, str] = {}
    for key, place in placed.items():
        if place in made and by_place.setdefault(place, key) != key:
            raise InputError(f"model '{name}': {by_place[place]} and {key} are both its {place}: save it again")
    return placed


def _is_packed(place: str, made: Mapping[str, Any]) -> bool:
    module, _, leaf = place.rpartition(".")
    return leaf in PACKED and f"{module}.weight" in made


def _check_complete(
    name: str, model: PreTrainedModel, placed: Mapping[str, str], made: Mapping[str, Any], quantised: bool
) -> None:
    """Refuse weights that lack a tensor: the library would draw it at random."""
    held = set(placed.values())
    if quantised:
        held |= {f"{place.rpartition('.')[0]}.weight" for place in held if place.rpartition(".")[2] in PACKED}
    for one, other in model.all_tied_weights_keys.items():
        held |= {one, other} if held & {one, other} else set()
    if absent := sorted(set(made) - held):
        raise lacking(name, absent)


def lacking(name: str, absent: list[str]) -> InputError:
    """The sentence that refuses weights which lack tensors."""
    return InputError(f"model '{name}': its weights lack {len(absent)} tensors ({absent[0]}): save the model again")


def _beyond(name: str, more: list[str]) -> InputError:
    """The sentence that refuses weights which hold more than the model."""
    return InputError(
        f"model '{name}': its weights hold {len(more)} tensors that its configuration has no place for ({more[0]}): "
        "correct its config.json, or save the model again"
    )


def check_read(name: str, told: Mapping[str, Any], model: PreTrainedModel, left: Collection[str] = ()) -> None:
    """Refuse what the library left out, drew at random or did not tie while it read, as it tells when asked.

    Args:
        name: of the model, for the sentence.
        told: what `output_loading_info` returns.
        model: that was read.
        left: tensors that are known to say nothing new (`check_stored`).

    Raises:
        InputError: naming the first tensor.
    """
    if told["missing_keys"]:
        raise lacking(name, sorted(told["missing_keys"]))
    if more := sorted(set(told["unexpected_keys"]) - set(left)):
        raise _beyond(name, more)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if model.config.tie_word_embeddings and head is not None and head.weight is not embedding.weight:
        raise InputError(
            f"model '{name}': its configuration ties the head to the embedding, and its weights hold a head of its "
            "own: set tie_word_embeddings to false in its config.json, or save the model again"
        )


_ROTARY = "rotary tables stored by an older library, equal to the model's own"
_MASKS = "causal masks stored by an older library, which the model makes itself"
_MASK = re.compile(r"\.(attn|attention)\.(bias|masked_bias)$")


def _leftovers(strays: Mapping[str, Stored], model: PreTrainedModel) -> dict[str, str]:
    """Of tensors without a place, those that older libraries stored and that say nothing new, with what they are."""
    found: dict[str, str] = {}
    for name, one in strays.items():
        if name.endswith("rotary_emb.inv_freq") and _is_own_rotary(one.read(name), model):
            found[name] = _ROTARY
        elif _MASK.search(name) and _is_mask(one, name):
            found[name] = _MASKS
    return found


def _is_own_rotary(stored: Tensor, model: PreTrainedModel) -> bool:
    """Whether frequencies are those that the configuration makes, as exactly as their dtype holds them."""
    names = [name for name, _ in model.named_modules() if name.endswith("rotary_emb")]
    if not names:
        return False
    make: Any = type(model.get_submodule(names[0]))
    with torch.device("cpu"):
        own = make(model.config).inv_freq.to(stored.dtype)
    precision = torch.finfo(stored.dtype)
    return own.shape == stored.shape and torch.allclose(
        own.float(), stored.float(), rtol=4 * precision.eps, atol=precision.smallest_normal
    )


def _is_mask(one: Stored, name: str) -> bool:
    """Whether a buffer is a causal mask, or the number that stood for minus infinity."""
    if name.endswith("masked_bias"):
        return torch.Size(one.shape).numel() == 1 and float(one.read(name)) <= -1e4
    if len(one.shape) != 4 or one.shape[0] * one.shape[1] != 1:
        return False
    mask = one.read(name)[0, 0].float()
    return torch.equal(mask, torch.ones_like(mask).tril())
