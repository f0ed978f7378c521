"""What tests of capture read: random sequences under padding, for every family in every shape that it comes in."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from probes.backends import BACKENDS
from probes.capture import Recorder, stream
from probes.families import family_of
from probes.lora import add_lora
from probes.sites import Kind, Site, sites_of
from tests.tiny_models import TINY_TYPES

pytestmark = pytest.mark.usefixtures("one_thread")

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *[(model_type, dict[str, Any]()) for model_type in TINY_TYPES],
    ("gpt_neox", {"use_parallel_residual": False}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
    # OPT-350m: norms after each block, and embeddings narrower than the stream.
    ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
]
every_model = pytest.mark.parametrize(
    ("model_type", "overrides"), VARIANTS, ids=[" ".join([name, *settings]) for name, settings in VARIANTS]
)
every_type = pytest.mark.parametrize("model_type", TINY_TYPES)
every_backend = pytest.mark.parametrize("backend", list(BACKENDS))
# Sums in another order: what equals but for fp32 rounding.
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


@dataclass(frozen=True)
class Sequences:
    """Stands for probes.inputs.Inputs: the four fields that capture reads."""

    embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    content: Tensor


def sequences(model: PreTrainedModel, pads=(0, 3, 5), length=9, seed=1) -> Sequences:
    """Random embeddings (as a soft prompt's are: no token has them), each row padded on the left."""
    width = getattr(model.config, "word_embed_proj_dim", model.config.hidden_size)
    embeds = torch.randn(len(pads), length, width, generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(length) >= torch.tensor(pads)[:, None]).long()
    return Sequences(embeds.to(model.dtype), mask, (mask.cumsum(-1) - 1).clamp(min=0), mask.bool())


def captured(model, inputs, kinds=tuple(Kind), backend="hooks") -> dict[Site, Tensor]:
    kept: dict[Site, Tensor] = {}
    stream(model, inputs, sites_of(model, kinds), kept.__setitem__, backend=backend)
    return kept


def with_lora(model: PreTrainedModel) -> PreTrainedModel:
    """Inject LoRA with weights far from zero into every linear layer of every block, in place."""
    names = sorted({name.rpartition(".")[2] for name in family_of(model).linears})
    config = peft.LoraConfig(r=2, target_modules=names, init_lora_weights=False, fan_in_fan_out=family_of(model).conv1d)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        peft.inject_adapter_in_model(config, model)
    return model.eval()


def requires_logits_where_wanted(model, backend: str) -> None:
    """A backend gives all logits, those of chosen positions, or none, and no gradient."""
    inputs = sequences(model)
    with Recorder(model, backend=backend) as recorder:
        full = recorder.stream(inputs, [], lambda *_: None)
        some = recorder.stream(inputs, [], lambda *_: None, logits_at=torch.tensor([4, 8]))
        none = recorder.stream(inputs, [], lambda *_: None, logits_at=torch.tensor([], dtype=torch.long))
    assert_equal(some, full[:, [4, 8]])
    assert none.shape == (3, 0, model.config.vocab_size)
    assert not full.requires_grad


def shifted_lora(model: PreTrainedModel):
    """An adapter whose B is far from zero."""
    lora = add_lora(model, rank=2, targets="all", seed=0)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in lora.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return lora
