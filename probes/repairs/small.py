"""A tuned prompt or prefix made smaller: what quantised and sparse ones share."""

from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from probes.prompts import load_prompts
from probes.repairs.base import Making, Opening, RepairWork, Size, VectorWork
from probes.repairs.registry import work_of
from probes.small_prompts import Packed, load_small, save_small
from probes.specs.repairs.small import SmallRepair
from probes.variants import Variant

BEFORE = "small-"
"""What stands before the name of the file that the whole one is kept in."""
S = TypeVar("S", bound=SmallRepair)


class SmallWork(RepairWork[S]):
    """Made from what is kept of a whole one, and used as that is."""

    def pack(self, spec: S, vectors: Float[Tensor, "vector number"]) -> tuple[Packed, int]:
        """The form whose bytes are counted, and how many numbers it holds.

        Raises:
            InputError: numbers that cannot be kept so, or none that would be.
        """
        raise NotImplementedError

    def settings(self, spec: S) -> dict[str, int]:
        """What has to be known to read the packed form, beside its shape."""
        return {}

    def make(self, spec: S, making: Making, folder: Path) -> Size:
        """Make a tuned prompt or prefix smaller; its size is that of what is stored, scales and places included.

        Raises:
            InputError: numbers that cannot be kept so, or none that would be.
        """
        file = self._whole(spec).file
        (vectors,) = load_prompts(making.needs["whole"] / file)
        packed, count = self.pack(spec, vectors)
        save_small(packed, folder / f"{BEFORE}{file}", shape=tuple(vectors.shape), **self.settings(spec))
        return Size(count, sum(one.numel() * one.element_size() for one in packed.values()), 0)

    def kept(self, spec: S, opening: Opening) -> Float[Tensor, "vector number"]:
        """The vectors read back from the packed form, on the parent's device."""
        model = opening.parent.model
        return load_small(opening.kept / f"{BEFORE}{self._whole(spec).file}", model.dtype).to(model.device)

    def open(self, spec: S, opening: Opening) -> Variant:
        """The parent behind what was packed."""
        return self._whole(spec).carrying(self.kept(spec, opening), opening)

    def write(self, spec: S, opening: Opening, to: Path) -> None:
        """As a folder of peft's, read back."""
        self._whole(spec).write_vectors(self.kept(spec, opening), opening, to)

    def only_vectors(self, spec: S) -> bool:
        """As what it is made from."""
        return work_of(spec.of).only_vectors(spec.of)

    def _whole(self, spec: S) -> VectorWork[Any]:
        work = work_of(spec.of)
        assert isinstance(work, VectorWork)
        return work
