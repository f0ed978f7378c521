"""A model past one GPU: whole blocks on each of the machine's GPUs, through accelerate's device map.

1. accelerate divides the weights evenly over the GPUs, no block cut in two, and puts hooks before the modules that
   move what a module is given to where its weights are.
2. What is called by itself (the decoder, the norm after it, the head) answers on the device it was asked on, so that
   whoever calls it need not know where it stands; so do captured tensors (`probes.capture`).
3. A copy of the model stands where the model does.
"""

from collections.abc import Mapping

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module
from accelerate.utils import get_balanced_memory
from torch import nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.families import family_of

SPREAD = "auto"
"""The device of a model that is spread over all GPUs, as accelerate and Hugging Face call it."""
MOVERS = {"to", "cuda", "npu", "xpu", "mlu", "sdaa", "musa"}
Place = int | str | torch.device


def spread(model: PreTrainedModel) -> PreTrainedModel:
    """Put a model onto this machine's GPUs, in place; onto one GPU as it would be without this.

    Raises:
        InputError: it does not fit there.
    """
    whole: list[str] = list(model._no_split_modules or [])
    memory = get_balanced_memory(model, no_split_module_classes=whole, dtype=model.dtype)
    places = infer_auto_device_map(model, max_memory=memory, no_split_module_classes=whole, dtype=model.dtype)
    if left := {str(place) for place in places.values()} & {"cpu", "disk"}:
        needed = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        raise InputError(
            f"device '{SPREAD}': the model's {needed / 1e9:.1f} GB of weights do not fit into this machine's "
            f"{torch.cuda.device_count()} GPUs (accelerate would leave some on {' and '.join(sorted(left))}): "
            "use more of them, or dtype: bfloat16"
        )
    if len(set(places.values())) == 1:
        model.to(torch.device(next(iter(places.values()))))  # type: ignore[arg-type]  # a decorator hides the signature
        return model
    return place(model, places)


def place(model: PreTrainedModel, places: Mapping[str, Place]) -> PreTrainedModel:
    """Put a model's modules, by name, onto devices, in place, and hooks before them."""
    on_cpu = any(torch.device(one).type == "cpu" for one in places.values())
    main = "cpu" if on_cpu else next(iter(places.values()))  # with a GPU as main, weights on the CPU would be offloaded
    skipped = model._skip_keys_device_placement
    dispatch_model(model, device_map=dict(places), main_device=main, skip_keys=skipped, force_hooks=True)
    del model.hf_device_map  # peft would read it and dispatch anew
    for name in MOVERS & set(vars(model)):
        delattr(model, name)  # a wrapper that warns, and in a copy would still move the first model
    for part in _asked_alone(model):
        own = next(part.parameters()).device
        add_hook_to_module(part, AlignDevicesHook(execution_device=own, io_same_device=True, skip_keys=skipped))
    return model


def _asked_alone(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that are called past the model, less those of which it has none."""
    family = family_of(model)
    names = [family.blocks.rpartition(".")[0], family.final_norm, family.head]
    own = dict(model.named_modules())
    parts = [own[name] for name in names if name in own]
    return list({id(part): part for part in [model.base_model, *parts]}.values())


def is_spread(model: PreTrainedModel) -> bool:
    """Whether a model has been divided among devices."""
    return hasattr(model, "_hf_hook")


def gathered(model: PreTrainedModel) -> PreTrainedModel:
    """A spread model, in place, without its hooks: for a library that moves things itself."""
    return remove_hook_from_module(model, recurse=True) if is_spread(model) else model


def place_as(model: PreTrainedModel, other: PreTrainedModel) -> PreTrainedModel:
    """Put a model of the same modules where another stands, in place."""
    if not is_spread(other):
        return model
    return place(model, {name: weight.device for name, weight in _leaders(other).items()})


def _leaders(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """By name, the modules that stand on one device each (as few as there are), each with its first weight."""
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        within = any(name == outer or name.startswith(f"{outer}.") for outer in found)
        weights = list(module.parameters())
        if weights and not within and len({weight.device for weight in weights}) == 1:
            found[name] = weights[0]
    return found
