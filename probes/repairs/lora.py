"""Low-rank additions to the weights, tuned (Hu et al., arXiv 2106.09685); `probes/lora.py` holds the adapter."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from probes.families import family_of
from probes.lora import adapted, add_lora, load_lora, targeted_layers
from probes.repairs.base import ADAPTER, Opening, RepairWork, Size, TuningData
from probes.specs.repairs.base import Repair
from probes.specs.repairs.lora import LoraSpec
from probes.tuning import Step
from probes.variants import Variant

R = TypeVar("R", bound=Repair)


class KeptAdapter(RepairWork[R]):
    """What leaves the two factors of a LoRA in a folder, however they were made."""

    def open(self, spec: R, opening: Opening) -> Variant:
        """A copy of the parent, sharing its weights, with the factors in it."""
        model = adapted(load_lora(opening.parent.model, opening.kept / ADAPTER))
        return replace(opening, parent=replace(opening.parent, model=model)).variant()

    def write(self, spec: R, opening: Opening, to: Path) -> None:
        """As a folder of peft's."""
        from probes.adapter_folders import write_lora  # of export alone

        model = opening.parent.model
        write_lora(to, load_lora(model, opening.kept / ADAPTER), model, opening.base)


class LoraWork(KeptAdapter[LoraSpec]):
    """An adapter whose factors are moved."""

    def tune(self, model: PreTrainedModel, spec: LoraSpec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
        """The factors are moved, over the model's own weights."""
        lora = add_lora(model, rank=spec.rank, targets=spec.targets, seed=data.seed)
        moved = [one for one in lora.parameters() if one.requires_grad]
        log = data.tune(adapted(lora), moved, None, spec.learning_rate)
        lora.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
        return log, Size.of(moved, moved)

    def parameters(self, spec: LoraSpec, model: PreTrainedModel) -> int:
        """Its rank by the inputs and outputs of every layer that it stands beside."""
        layers = family_of(model).linears_of(model)
        return spec.rank * sum(_ends(layers[name]) for name in targeted_layers(model, spec.targets))


def _ends(layer: nn.Module) -> int:
    """Inputs and outputs of a linear layer: what a rank of one adds."""
    return sum(layer.get_parameter("weight").shape)


REPAIR = LoraWork()
