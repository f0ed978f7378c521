"""Every variant that a study compares, in every family, read by every backend: the same numbers from each."""

from typing import Any

import pytest
import torch
from torch import Tensor

from probes.backends import BACKENDS
from probes.bake import bake
from probes.capture import TOLERANCE, Gap, Recorder
from probes.families import family_of
from probes.prefix import Prefixes
from probes.prefix_tuning import PrefixShape, TunedPrefix, flatten
from probes.prompts import draw_prompt
from probes.sites import Kind, Site, kinds_of, sites_of
from probes.variants import Variant
from tests.sequences import assert_equal, every_backend, every_model, with_lora
from tests.tiny_models import tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
LENGTH = 3
SHAPES = ("dense", "compressed", "prompted", "cached prompt", "prefix", "lora", "compressed, prompted, lora")


def compressed(model: Any) -> Any:
    """Half of every layer's weights gone, baked as a compressed copy is."""
    family = family_of(model)
    weights = {name: layer.weight.clone() for name, layer in family.linears_of(model).items()}
    for weight in weights.values():
        weight[weight.abs() < weight.abs().median()] = 0
    return bake(model, [(name, one.T if family.conv1d else one) for name, one in weights.items()])


def variant(shape: str, model: Any) -> Variant:
    model = compressed(model) if "compressed" in shape else model
    model = with_lora(model) if "lora" in shape else model
    held: dict[str, Any] = {}
    if "prompted" in shape:
        held["prompt"] = draw_prompt(model, LENGTH, 1)
    elif shape == "cached prompt":
        held["prefix"] = TunedPrefix(flatten(Prefixes(model, [draw_prompt(model, LENGTH, 1)])), model)
    elif shape == "prefix":
        numbers = torch.randn(LENGTH, PrefixShape.of(model).per_slot, generator=torch.Generator().manual_seed(1))
        held["prefix"] = TunedPrefix(numbers, model)
    return Variant(shape, model, None, **held)  # type: ignore[arg-type]


def by_position(site: Site, tensor: Tensor) -> Tensor:
    return tensor.transpose(1, 2) if site.kind is Kind.PATTERN else tensor


@pytest.mark.parametrize("shape", SHAPES)
@every_model
def test_backends_agree_at_every_site(model_type, overrides, shape):
    one = variant(shape, tiny(model_type, **overrides).requires_grad_(False))
    inputs = one.inputs(ROWS)
    sites = sites_of(one.model, Kind)
    found: dict[str, dict[Site, Any]] = {backend: {} for backend in BACKENDS}
    real = inputs.attention_mask.bool()
    for backend, tensors in found.items():
        recorder = Recorder(one.model, backend=backend)
        assert set(recorder.parity(inputs, sites).require().sites) == set(sites)
        for _ in range(2):  # made once, run over many batches
            recorder.stream(inputs, sites, tensors.__setitem__)
    for site in sites:
        rows = [
            tensors[site].transpose(1, 2) if site.kind is Kind.PATTERN else tensors[site] for tensors in found.values()
        ]
        for other in rows[1:]:
            assert Gap.between(other[real], rows[0][real]).relative <= TOLERANCE[torch.float32]
    assert {site.kind for site in sites} == set(kinds_of(one.model))


@every_backend
@every_model
def test_a_cached_prompt_shows_at_content_what_the_prompt_itself_shows(model_type, overrides, backend):
    model = tiny(model_type, **overrides).requires_grad_(False)
    shown: list[dict[Site, Any]] = []
    for one in (variant("prompted", model), variant("cached prompt", model)):
        held: dict[Site, Any] = {}
        inputs = one.inputs(ROWS)
        Recorder(one.model, backend=backend).stream(inputs, sites_of(model, Kind), held.__setitem__)
        shown.append(
            {site: tensor.transpose(1, 2) if site.kind is Kind.PATTERN else tensor for site, tensor in held.items()}
        )
    for site, tensor in shown[0].items():
        assert_equal(tensor[inputs.content], shown[1][site][inputs.content])
