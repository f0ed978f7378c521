"""Open what a cell describes: the dense model once per process, a compressed copy, a variant with its repair."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from analysis.study import read_facts
from data.errors import InputError
from data.facts import Fact, FactSet
from data.text import Part, stated, text_as_planned
from probes.bake import bake
from probes.families import family_of
from probes.models import TWIN, OpenedModel, open_model, open_weights
from probes.repairs.base import Opening
from probes.repairs.registry import work_of
from probes.sharing import ChangedWeightsError, Guard
from probes.specs.compression import CompressionSpec
from probes.specs.variants import VariantSpec
from probes.tokens import Template, ask_by
from probes.tuning import encode_blocks
from probes.variants import Variant

WEIGHTS = "weights.safetensors"


def open_as_planned(model: str, sha: str, *, dtype: str, device: str) -> OpenedModel:
    """A model whose files have to be those that were hashed when the study was planned.

    Raises:
        InputError: they changed meanwhile, or do not open.
    """
    opened = open_model(model, dtype=dtype, device=device)
    if opened.sha != sha:
        raise InputError(f"model '{model}' changed while the study ran: start it again")
    return opened


def weights_as_planned(model: str, sha: str, *, dtype: str, device: str) -> PreTrainedModel:
    """A model without its tokenizer, whose files have to be those that were hashed when the study was planned.

    Raises:
        InputError: they changed meanwhile, or do not open.
    """
    opened, source = open_weights(model, dtype=dtype, device=device)
    if source.sha != sha:
        raise InputError(f"model '{model}' changed while the study ran: start it again")
    return opened


@dataclass(frozen=True, eq=False)
class _Guarded:
    """A model that stays open from cell to cell, and the guard of its weights."""

    opened: OpenedModel
    guard: Guard


_used: dict[int, _Guarded] = {}
"""Models that the cell under way was given, whether or not they are still kept open."""


def _use(held: _Guarded) -> _Guarded:
    """Hand out a model whose weights are still those that were opened.

    Raises:
        ChangedWeightsError: they are not.
    """
    _used[id(held)] = held
    try:
        held.guard.look()
    except ChangedWeightsError:
        close_models()
        raise
    return held


def begin() -> None:
    """Forget what was used before: of a cell that begins, the models that it is given itself are compared."""
    _used.clear()


def require_unchanged() -> None:
    """Compare every bit of the models that were used since the beginning: asked before a cell is kept.

    Raises:
        ChangedWeightsError: a weight was changed. All models are closed then, so that no later cell reads it.
    """
    try:
        for held in _used.values():
            held.guard.verify()
    except ChangedWeightsError:
        close_models()
        raise
    finally:
        _used.clear()


@lru_cache(maxsize=2)
def _opened(model: str, model_sha: str, dtype: str, device: str, template: Template) -> _Guarded:
    """A dense model (and the atlas's twin beside it); the hash of its files is part of the key."""
    opened = open_as_planned(model, model_sha, dtype=dtype, device=device)
    ask_by(opened.tokenizer, template)
    return _Guarded(opened, Guard(opened.model, f"model '{model}'"))


def dense(fields: dict[str, Any]) -> OpenedModel:
    """The dense model of a cell."""
    return _dense(fields).opened


def _dense(fields: dict[str, Any]) -> _Guarded:
    return _use(_opened(*_place(fields)))


def _place(fields: dict[str, Any]) -> tuple[str, str, str, str, Template]:
    """Which model a cell opens, where, and how it asks it."""
    told = fields["model"], fields["model_sha"], fields["dtype"], fields["device"]
    return *told, fields["template"]


@lru_cache(maxsize=1)
def _compressed(place: tuple[str, str, str, str, Template], folder: Path) -> _Guarded:
    """A compressed copy: the dense model with the stored layers, and whatever else is stored, in place of its own."""
    model, opened = place[0], _opened(*place).opened
    layers, outside = parted(load_file(folder / WEIGHTS), family_of(opened.model).linears_of(opened.model))
    baked = bake(opened.model, layers.items(), outside).eval()
    baked.requires_grad_(False)
    return _Guarded(replace(opened, model=baked), Guard(baked, f"the compressed copy of '{model}'"))


def parted(stored: Mapping[str, Tensor], names: Collection[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a compressed cell stored: the weights of the named layers, and tensors outside them by their full names."""
    layers = {name: stored[name] for name in names}
    return layers, {name: tensor for name, tensor in stored.items() if name not in layers}


def close_models() -> None:
    """Let go of the models that this process keeps open: whoever only hands out cells needs their memory no more."""
    _opened.cache_clear()
    _compressed.cache_clear()
    _used.clear()


def models_open() -> int:
    """How many dense models this process keeps open."""
    return _opened.cache_info().currsize


def parent_model(fields: dict[str, Any], needs: dict[str, Path]) -> OpenedModel:
    """The compressed copy where the cell needs one, else the dense model."""
    return _parent(fields, needs).opened


def _parent(fields: dict[str, Any], needs: dict[str, Path]) -> _Guarded:
    if "compressed" not in needs:
        return _dense(fields)
    return _use(_compressed(_place(fields), needs["compressed"]))


def tuned_over(fields: dict[str, Any], needs: dict[str, Path]) -> OpenedModel:
    """What a repair is tuned over: its parent, or where it stands on an adapter the parent with that in it."""
    parent = parent_model(fields, needs)
    return Opening("", parent, needs, None, fields["model"], "", lambda: facts_of(fields), []).under()


def parts_of(needs: dict[str, Path], place: str) -> dict[str, Path]:
    """What one of a cell's several variants needs: the roles that begin with its place, without it."""
    prefix = f"{place}."
    return {role.removeprefix(prefix): path for role, path in needs.items() if role.startswith(prefix)}


def open_variant(fields: dict[str, Any], spec: VariantSpec, needs: dict[str, Path]) -> Variant:
    """A variant from the folders of the cells that made its parts."""
    parent = _parent(fields, needs)
    if spec.repair is not None and spec.repair.twin:
        parent = _use(_opened(*_place(fields | {"model": TWIN, "model_sha": fields["twin_sha"]})))
    opening = _opening(fields, spec, needs, parent.opened)
    variant = opening.variant() if spec.repair is None else work_of(spec.repair).open(spec.repair, opening)
    variant.guard = parent.guard
    return variant


def opening_of(fields: dict[str, Any], spec: VariantSpec, needs: dict[str, Path]) -> Opening:
    """What a variant is opened from."""
    return _opening(fields, spec, needs, parent_model(fields, needs))


def _opening(fields: dict[str, Any], spec: VariantSpec, needs: dict[str, Path], parent: OpenedModel) -> Opening:
    """What a variant is opened from, over this parent."""
    return Opening(
        name=spec.name,
        parent=parent,
        needs=needs,
        seed=spec.repair_seed,
        base=spec.model,
        scope=spec.scope,
        facts=lambda: facts_of(fields),
        groups=fields["groups"],
    )


@lru_cache(maxsize=1)
def _facts(source: str, seed: int, candidates: int, relations: tuple[str, ...] | None, sha: str) -> FactSet:
    facts = read_facts(source, seed, candidates, relations)
    if facts.sha != sha:
        raise InputError(f"the facts of '{source}' changed while the study ran: start it again")
    return facts


def facts_of(fields: dict[str, Any]) -> FactSet:
    """The facts of a cell."""
    relations = None if fields["relations"] is None else tuple(fields["relations"])
    return _facts(fields["facts"], fields["fact_seed"], fields["candidates"], relations, fields["facts_sha"])


def clean_blocks(
    tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any], part: Part, length: int, seed: int, most: int
) -> tuple[list[list[int]], int]:
    """At most `most` blocks of text that state no fact of the calibrate or test people, and how many were dropped.

    A block that holds both a subject and its answer is dropped, however far apart they stand.
    """
    forbidden: list[Fact] = [fact for fact in facts_of(fields).facts if fact.split != "tune"]
    text = text_as_planned(fields["text"], fields["text_sha"], part, seed)
    kept: list[list[int]] = []
    dropped = 0
    for block in encode_blocks(tokenizer, text.paragraphs, length):
        if stated(str(tokenizer.decode(block)), forbidden):
            dropped += 1
        else:
            kept.append(block)
        if len(kept) == most:
            break
    return kept, dropped


def tuning_blocks(
    tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any], length: int, seed: int, most: int
) -> tuple[list[list[int]], int]:
    """Windows of tuning text, at most `most`, and how many were dropped because they state what is only measured.

    Raises:
        InputError: none is left, so that nothing would be tuned on the text that the study asks for.
    """
    windows, dropped = clean_blocks(tokenizer, fields, "tuning", length, seed, most)
    if not windows:
        raise InputError(
            f"text '{fields['text']}' gives no tuning window of {length} tokens that states no withheld fact "
            f"({dropped} were dropped): give another text, shorter windows (tuning.text_length), or "
            "tuning.text_batch: 0"
        )
    return windows, dropped


def calibration_blocks(
    tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any], spec: CompressionSpec
) -> tuple[torch.Tensor, int]:
    """Calibration text as token ids, `samples` by `block_length`."""
    blocks, dropped = clean_blocks(tokenizer, fields, "calibration", spec.block_length, fields["seed"], spec.samples)
    if len(blocks) < spec.samples:
        raise InputError(
            f"text '{fields['text']}' gives {len(blocks)} calibration blocks of {spec.block_length} tokens and "
            f"{spec.name} asks for {spec.samples}: give more text, or lower samples or block_length"
        )
    return torch.tensor(blocks), dropped
