"""A model's structure copied, its weights shared, and the check that nobody changes what is shared.

1. When a model is opened, every tensor of it is hashed.
2. Whenever it is used, the version counters of its tensors and the places of their memory are compared: in-place
   changes and replaced memory show there at once, but not what is written through `.data`, as libraries do.
3. When whoever used it is done, every tensor is hashed again.

What one variant writes into shared weights would move all others without a word: the run stops instead.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import xxhash
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError


class ChangedWeightsError(InputError):
    """Weights that several variants share are not what they were."""


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Copy the module tree and the configuration, but not one parameter or buffer.

    Modules of the copy can be replaced, hooked or adapted while the original's stay as they are; a weight
    changed in place changes in both, which `Guard` finds. Costs kilobytes per module, whatever the size of the weights.
    """
    # deepcopy takes what is in its memo for already copied: so each tensor stands for itself.
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


@dataclass(frozen=True)
class _Held:
    """One tensor of a module as it was."""

    name: str
    home: dict[str, Tensor | None]
    """The module's own table of parameters or buffers."""
    key: str
    tensor: Tensor
    version: int
    pointer: int
    checksum: str

    @property
    def in_place(self) -> bool:
        """Whether the module still has this tensor, with no change counted and in the same memory."""
        tensor = self.tensor
        return (
            self.home.get(self.key) is tensor and tensor._version == self.version and tensor.data_ptr() == self.pointer
        )


class Guard:
    """What the weights of a model were when the guard was made, and whether they still are."""

    def __init__(self, model: nn.Module, name: str) -> None:
        """Hash every parameter and persistent buffer of a model; `name` is how an error calls it."""
        self.name = name
        self._held = list(_tensors_of(model))

    def look(self) -> None:
        """Compare version counters and memory: microseconds a tensor.

        Raises:
            ChangedWeightsError: a weight was changed in place, or replaced.
        """
        self._refuse([held.name for held in self._held if not held.in_place])

    def verify(self) -> None:
        """Compare every bit.

        Raises:
            ChangedWeightsError: a weight was changed, however.
        """
        self.look()
        self._refuse([held.name for held in self._held if checksum(held.tensor) != held.checksum])

    def _refuse(self, changed: list[str]) -> None:
        if changed:
            raise ChangedWeightsError(
                f"{self.name}: {len(changed)} of its {len(self._held)} weights were changed while a variant that "
                f"shares them was open ({changed[0]}), so every number of this step would be of another model: "
                "nothing of it was kept; leave out the repair that was being opened, and report this"
            )


def _tensors_of(model: nn.Module) -> Iterator[_Held]:
    """Every parameter and persistent buffer of a model, a tied one once."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        passing = module._non_persistent_buffers_set
        buffers = {key: one for key, one in module._buffers.items() if key not in passing}
        for home, held in ((module._parameters, module._parameters), (module._buffers, buffers)):
            for key, tensor in held.items():
                if tensor is not None and id(tensor) not in seen and not tensor.is_meta:
                    seen.add(id(tensor))
                    name = f"{path}.{key}" if path else key
                    yield _Held(name, home, key, tensor, tensor._version, tensor.data_ptr(), checksum(tensor))


def checksum(tensor: Tensor) -> str:
    """Hash of the bytes of a tensor, wherever it lies."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return str(xxhash.xxh3_128_hexdigest(plain.view(torch.uint8).numpy().data)) if plain.numel() else ""


@contextmanager
def unchanged(model: nn.Module, name: str) -> Iterator[None]:
    """Hash a model's weights before and after something is put on a copy that shares them.

    Raises:
        ChangedWeightsError: they differ.
    """
    guard = Guard(model, name)
    yield
    guard.verify()
