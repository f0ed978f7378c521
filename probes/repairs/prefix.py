"""Trained keys and values at every layer (Li and Liang, arXiv 2101.00190)."""

from pathlib import Path
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from probes.prefix_tuning import EncodedPrefix, FlatPrefix, PrefixShape, TunedPrefix, draw_prefix
from probes.prompts import save_prompts
from probes.repairs.base import PREFIX, Opening, Size, TuningData, VectorWork
from probes.specs.repairs.base import Repair
from probes.specs.repairs.prefix import PrefixSpec
from probes.tuning import Step
from probes.variants import Variant

R = TypeVar("R", bound=Repair)


class KeptPrefix(VectorWork[R]):
    """What leaves one prefix in a file, however it was made."""

    file = PREFIX

    def carrying(self, vectors: FlatPrefix, opening: Opening) -> Variant:
        """The parent behind the prefix."""
        return opening.variant(prefix=TunedPrefix(vectors, opening.parent.model))

    def write_vectors(self, vectors: FlatPrefix, opening: Opening, to: Path) -> None:
        """As a folder of peft's."""
        from probes.adapter_folders import write_prefix  # of export alone, and not of every cell with a prefix

        write_prefix(to, vectors, opening.parent.model, opening.base)


class PrefixWork(KeptPrefix[PrefixSpec]):
    """A prefix whose numbers are moved themselves, or made by a perceptron that is dropped."""

    def tune(self, model: PreTrainedModel, spec: PrefixSpec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
        """The numbers or the perceptron's weights are moved, and the numbers kept."""
        moved: list[nn.Parameter]
        if spec.encoder_width is None:
            flat = nn.Parameter(draw_prefix(model, spec.length, data.seed).float())
            moved, made = [flat], lambda: flat
        else:
            encoder = EncodedPrefix(model, spec.length, spec.encoder_width, data.seed)
            moved, made = list(encoder.parameters()), encoder
        log = data.tune(model, moved, lambda: TunedPrefix(made(), model), spec.learning_rate)
        kept = made().detach().to(model.dtype)
        save_prompts([kept], folder / PREFIX)
        return log, Size.of([kept], moved)

    def parameters(self, spec: PrefixSpec, model: PreTrainedModel) -> int:
        """Slots by what one holds at all layers."""
        return spec.length * PrefixShape.of(model).per_slot


REPAIR = PrefixWork()
