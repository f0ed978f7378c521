"""A ready checkpoint beside the dense model: whether it is that model's, and what changed outside its linear layers.

A checkpoint may have been stored in fewer bits throughout (a GGUF's embedding, a copy in half precision), and scales
may have been folded from norms into the layers behind them. What changed is taken along and named with its size. What
is another model is refused: most of a checkpoint's matrices have to be more like their own counterpart in the dense
model than like any other of its matrices of that shape, and than like the counterpart with its rows moved. By chance at
most one in nine is; rounding, pruning and tuning leave it to all. Single matrices that are not were exchanged, drawn
anew or turned, and are named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from data.errors import InputError
from probes.bake import bake, compare_logits, oriented_weight
from probes.families import family_of
from probes.models import Outlook, look

COMPARED = 2**16
"""Weights of each matrix that are compared: its first rows, and no more than hold so many."""
SAME = ("model_type", "num_hidden_layers", "vocab_size", "hidden_size", "num_attention_heads")
"""What a ready checkpoint's shape is told by, in order of how much it explains."""
SHIFTS = range(1, 9)
"""Rows by which a matrix's counterpart is moved, so that one without others of its shape has something beside it."""
_LENGTH = 32
_PRECISION = 1e-5
"""Of a correlation in float32: two that are nearer to each other are equal."""
_ROUNDED = {"rounded to bfloat16": torch.bfloat16, "rounded to float16": torch.float16}
_UNUSED = frozenset(
    """
    _attn_implementation _name_or_path activation_dropout architectures attention_dropout attn_pdrop bos_token_id
    chunk_size_feed_forward classifier_dropout dropout dtype embd_pdrop eos_token_id hidden_dropout id2label
    initializer_range is_encoder_decoder label2id layerdrop max_position_embeddings max_window_layers
    output_attentions output_hidden_states pad_token_id pretraining_tp problem_type quantization_config resid_pdrop
    return_dict summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    tie_word_embeddings torch_dtype transformers_version use_cache
    """.split()
)
"""Fields of a configuration from which no number of an evaluated model follows; whether the head is tied shows in the
weights, and how many positions there are where they have weights of their own."""
_BY_LENGTH = ("dynamic", "longrope")
"""Rotary scalings that depend on the number of positions."""


@dataclass(frozen=True)
class OutsideChange:
    """One tensor outside the linear layers that differs from dense."""

    name: str
    relative: float
    """Norm of the difference over the larger of the two norms."""
    kind: str
    """Empty, or what explains it to the last bit."""


@dataclass(frozen=True)
class CheckpointProof:
    """What was found of a ready checkpoint, beside the dense model."""

    targeted: int
    """Linear layers inside the blocks."""
    changed: int
    """Those that differ from dense."""
    outside: int
    """Other tensors."""
    outside_changed: tuple[OutsideChange, ...]
    """Those that differ from dense, the largest change first; all are taken along."""
    matrices: int
    """Tensors of two dimensions, that were held against those of the dense model."""
    unlike: tuple[str, ...]
    """Those that are more like another matrix than like their own counterpart: fewer than half of all."""
    least_likeness: float
    """Least correlation of a matrix with its counterpart in the dense model."""
    logit_difference: float
    """Greatest absolute difference between logits of what is kept and of the checkpoint as it was opened."""
    logit_tolerance: float
    """What `logit_difference` was allowed to be."""


@dataclass(frozen=True)
class Taken:
    """What of a checkpoint takes the place of dense weights, and the proof."""

    layers: dict[str, Float[Tensor, "out in"]]
    """Every linear layer's weight by its name, as [out, in]."""
    outside: dict[str, Tensor]
    """Every other tensor that changed, by its full name."""
    proof: CheckpointProof


def look_checkpoint(path: str, dense: PretrainedConfig, model: str) -> Outlook:
    """Look at a ready checkpoint's small files, and refuse one that cannot take the place of dense weights.

    Args:
        path: of the checkpoint.
        dense: the dense model's configuration, with which the checkpoint's weights will be used.
        model: name of the dense model, for the sentence.

    Raises:
        InputError: it cannot be opened, is of another shape, or makes other numbers of the same weights; named.
    """
    outlook = look(path)
    check_same_computation(dense, outlook.config, path, model)
    return outlook


def check_same_computation(dense: PretrainedConfig, other: PretrainedConfig, path: str, model: str) -> None:
    """Refuse a checkpoint whose configuration describes another shape, or makes other numbers of the same weights.

    Raises:
        InputError: naming the first field that differs.
    """
    for name in SAME:
        one, two = getattr(dense, name, None), getattr(other, name, None)
        if one != two:
            raise InputError(
                f"checkpoint '{path}' is not of the dense model's architecture: its {name} is {two} and that of "
                f"'{model}' {one}; name a checkpoint of this model"
            )
    ours, theirs = _fields(dense), _fields(other)
    for name in dict.fromkeys((*ours, *theirs)):
        if not _alike(ours.get(name), theirs.get(name)):
            raise InputError(
                f"checkpoint '{path}' computes otherwise than the dense model: its {name} is {theirs.get(name)} and "
                f"that of '{model}' {ours.get(name)}; name a checkpoint of this model, or correct its configuration"
            )


def _fields(config: PretrainedConfig) -> dict[str, Any]:
    """The fields that the model's code knows and numbers follow from."""
    told = config.to_dict()
    known = {name: told.get(name) for name in type(config)().to_dict() if name not in _UNUSED}
    heads = told.get("num_attention_heads") or told.get("n_head")
    if "head_dim" in known and not known["head_dim"]:
        known["head_dim"] = config.hidden_size // heads
    if "num_key_value_heads" in known and not known["num_key_value_heads"]:
        known["num_key_value_heads"] = heads
    if (known.get("rope_parameters") or {}).get("rope_type") in _BY_LENGTH:
        known["max_position_embeddings"] = config.max_position_embeddings
    return known


def _alike(one: Any, other: Any) -> bool:
    """Whether two settings mean the same: a file may hold its numbers in float32."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-6 * max(abs(one), abs(other))
    return bool(one == other)


@torch.no_grad()
def take(dense: PreTrainedModel, other: PreTrainedModel, path: str) -> Taken:
    """What of a checkpoint takes the place of dense weights: its linear layers, and whatever else changed.

    Args:
        dense: the dense model, which is not changed.
        other: the checkpoint, opened in the same dtype.
        path: of the checkpoint, for the sentence.

    Raises:
        InputError: it is not of the dense model's architecture, or is another model.
        RuntimeError: what is taken is not the model that was opened.
    """
    _require_same_shapes(dense, other, path)
    found = [one for names in _by_shape(dense) for one in _likenesses(dense, other, names)]
    _require_same_model(found, path)
    names = list(family_of(dense).linears_of(dense))
    layers = {name: oriented_weight(other, name).contiguous() for name in names}
    outside = dict(_outside(dense, other))
    kept = bake(dense, layers.items(), outside)
    block = torch.arange(min(_LENGTH, dense.config.max_position_embeddings)) % dense.config.vocab_size
    difference, tolerance = compare_logits(other, kept, block)
    proof = CheckpointProof(
        targeted=len(names),
        changed=sum(not torch.equal(layers[name], oriented_weight(dense, name)) for name in names),
        outside=len(dense.state_dict()) - len(names),
        outside_changed=changed_outside(dense, other),
        matrices=len(found),
        unlike=tuple(one.name for one in found if not one.own),
        least_likeness=min(one.correlation for one in found),
        logit_difference=difference,
        logit_tolerance=tolerance,
    )
    return Taken(layers, outside, proof)


def _require_same_shapes(dense: PreTrainedModel, other: PreTrainedModel, path: str) -> None:
    ours = {name: tensor.shape for name, tensor in dense.state_dict().items()}
    theirs = {name: tensor.shape for name, tensor in other.state_dict().items()}
    if odd := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
        raise InputError(f"checkpoint '{path}' is not of the dense model's architecture: they differ at {odd[0]}")


@torch.no_grad()
def changed_outside(dense: PreTrainedModel, other: PreTrainedModel) -> tuple[OutsideChange, ...]:
    """What of a model of the same shape differs from dense outside the linear layers, the largest change first."""
    ours = dense.state_dict()
    changes = [_change(name, ours[name], tensor) for name, tensor in _outside(dense, other)]
    return tuple(sorted(changes, key=lambda one: -one.relative))


def _outside(dense: PreTrainedModel, other: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a model outside its linear layers that differs from dense."""
    ours, theirs = dense.state_dict(), other.state_dict()
    layers = {f"{name}.weight" for name in family_of(dense).linears_of(dense)}
    head, embedding = _tied_pair(dense)
    for name in ours:
        # A head that is the embedding in both goes with it; one that is so in the dense model alone is its own.
        before = theirs[embedding] if name == head else ours[name]
        if name not in layers and not torch.equal(theirs[name], before):
            yield name, theirs[name].clone()


def _tied_pair(model: PreTrainedModel) -> tuple[str | None, str]:
    """Names of a model's head and embedding where they are one tensor; None for the head where they are not."""
    weight = model.get_input_embeddings().weight
    names = [name for name, one in model.named_parameters(remove_duplicate=False) if one is weight]
    embedding = next(name for name in names if not name.startswith(f"{family_of(model).head}."))
    return next((name for name in names if name != embedding), None), embedding


def _change(name: str, ours: Tensor, theirs: Tensor) -> OutsideChange:
    before, after = ours.double(), theirs.double()
    relative = (after - before).norm() / torch.maximum(after.norm(), before.norm())
    kinds = [kind for kind, dtype in _ROUNDED.items() if torch.equal(theirs, ours.to(dtype).to(theirs.dtype))]
    return OutsideChange(name, float(relative), kinds[0] if kinds else "")


@dataclass(frozen=True)
class _Likeness:
    """How much one matrix of a checkpoint is like its counterpart in the dense model."""

    name: str
    correlation: float
    """With its counterpart."""
    highest: float
    """With whatever of the dense model it is most like."""
    nearest: str
    """What that is."""

    @property
    def own(self) -> bool:
        """Whether nothing is more like it than its counterpart."""
        return self.correlation >= self.highest - _PRECISION


def _likenesses(dense: PreTrainedModel, other: PreTrainedModel, names: list[str]) -> Iterator[_Likeness]:
    """Each of a shape's matrices against all of the dense model's, and against its counterpart with its rows moved."""
    ours = torch.stack([_direction(dense, name) for name in names])
    for place, name in enumerate(names):
        theirs = _direction(other, name)
        whole = (ours.flatten(1) @ theirs.flatten()).tolist()
        shifted = max(float((ours[place].roll(shift, dims=0) * theirs).sum()) for shift in SHIFTS)
        nearest = max(range(len(names)), key=whole.__getitem__)
        if shifted > whole[nearest]:
            yield _Likeness(name, whole[place], shifted, f"{name} with its rows moved")
        else:
            yield _Likeness(name, whole[place], whole[nearest], names[nearest])


def _require_same_model(found: list[_Likeness], path: str) -> None:
    """Refuse what is another model."""
    unlike = [one for one in found if not one.own]
    if 2 * len(unlike) >= len(found):
        one = unlike[0]
        raise InputError(
            f"checkpoint '{path}' is another model: of its {len(found)} matrices {len(unlike)} are more like another "
            f"matrix of the dense model than like their own counterpart ({one.name}: correlation {one.correlation:.3f} "
            f"with its own, {one.highest:.3f} with {one.nearest}); name a checkpoint of the dense model"
        )


def _by_shape(model: PreTrainedModel) -> list[list[str]]:
    """The names of a model's matrices, those of one shape together."""
    found: dict[torch.Size, list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            found.setdefault(parameter.shape, []).append(name)
    return list(found.values())


def _direction(model: PreTrainedModel, name: str) -> Float[Tensor, "row column"]:
    """A matrix's first rows around zero, of length one; zeros stay zeros."""
    weight = model.get_parameter(name).detach()
    rows = weight[: max(2, COMPARED // weight.shape[1])].float().cpu()
    rows = rows - rows.mean()
    return rows / rows.norm().clamp_min(torch.finfo(rows.dtype).tiny)
