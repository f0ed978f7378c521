"""LoRA (Hu et al., arXiv 2106.09685): low-rank additions to the linear layers of a frozen model, held by peft.

1. Copy the model's structure, sharing its weights, so that the parent is never touched.
2. Let peft put A (Gaussian, seeded) and B (zero) beside each targeted layer: the start equals the parent.
3. Tune A and B by the loss on the tuning text.

LoRA can write facts into weights, which a prompt of a few vectors cannot; that is what it is compared for.
"""

from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from data.errors import InputError
from probes.families import family_of
from probes.sharing import share_weights, unchanged
from probes.specs.repairs.lora import Targets

WEIGHTS = "adapter_model.safetensors"
"""peft's name for the file of an adapter's tensors."""


def targeted_layers(model: PreTrainedModel, targets: Targets) -> list[str]:
    """Full names of the linear layers that get an adapter: those of attention, or all inside the blocks."""
    family = family_of(model)
    return [name for name in family.linears_of(model) if targets == "all" or f".{family.attention}." in f".{name}."]


def add_lora(model: PreTrainedModel, *, rank: int, targets: Targets, seed: int) -> PeftModel:
    """An adapted copy that shares the parent's weights; alpha is twice the rank, no dropout.

    Only the adapter's parameters require gradients. `.base_model.model` of the result is the Hugging Face
    model with the adapter inside.
    """
    shared = share_weights(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0,
            target_modules=targeted_layers(model, targets),
            fan_in_fan_out=family_of(model).conv1d,
        )
        return get_peft_model(shared, config).eval()


def adapted(peft_model: PeftModel) -> PreTrainedModel:
    """The Hugging Face model with the adapter inside."""
    return cast(PreTrainedModel, peft_model.base_model.model)


def load_lora(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on a copy of the model that shares its weights.

    Raises:
        ChangedWeightsError: peft wrote into the model's own weights while it opened the adapter.
        InputError: a tensor of the file has no place in the adapter that its configuration makes, or the other way.
    """
    with unchanged(model, f"the model under adapter '{folder}'"):
        loaded = PeftModel.from_pretrained(share_weights(model), folder).eval()
    stored = load_file(folder / WEIGHTS)
    read = get_peft_model_state_dict(loaded, save_embedding_layers=False)
    if odd := sorted(set(stored) ^ set(read)):
        missing = "has no place for" if odd[0] in stored else "wants and the file lacks"
        raise InputError(f"adapter '{folder}': its configuration {missing} {odd[0]}: save the adapter again")
    for name, tensor in stored.items():
        if not torch.equal(read[name].cpu(), tensor.to(read[name].dtype)):
            raise InputError(f"adapter '{folder}': {name} was not read as it is stored: save the adapter again")
    return loaded
