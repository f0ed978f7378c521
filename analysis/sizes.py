"""How large a repair will be and whether it fits, from the model's shape and before anything is tuned or written."""

from collections.abc import Iterator
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from analysis.study import Study
from data.errors import InputError
from probes.adapter_folders import read_adapter
from probes.families import family_of
from probes.inputs import longest_content
from probes.lora import targeted_layers
from probes.prefix_tuning import PrefixShape
from probes.specs.banks import BankSpec
from probes.specs.repairs import FolderSpec, LoraSpec, PrefixSpec, PromptSpec, PTuningSpec, QuantisedSpec, SparseSpec
from probes.specs.spec import Spec

SIZED = (PromptSpec, PTuningSpec, PrefixSpec, LoraSpec)


def parameters_of(spec: Spec, model: PreTrainedModel) -> int | None:
    """Numbers that a tuned repair adds to this model (its weights may be missing); None for one that is not tuned."""
    if isinstance(spec, PromptSpec | PTuningSpec):
        return spec.length * int(model.config.hidden_size)
    if isinstance(spec, PrefixSpec):
        return spec.length * PrefixShape.of(model).per_slot
    if isinstance(spec, LoraSpec):
        layers = family_of(model).linears_of(model)
        return spec.rank * sum(_ends(layers[name]) for name in targeted_layers(model, spec.targets))
    if isinstance(spec, BankSpec) and spec.tuned:
        under = 0 if spec.adapter is None else parameters_of(spec.adapter, model)
        assert under is not None
        return sum(spec.lengths) * int(model.config.hidden_size) + under
    return None


def _ends(layer: nn.Module) -> int:
    """Inputs and outputs of a linear layer: what a rank of one adds."""
    return sum(layer.get_parameter("weight").shape)


def check_budget(study: Study, model: PreTrainedModel) -> None:
    """Refuse repairs of other sizes than the budget's, where the study wants equal parameters.

    Raises:
        InputError: naming the repair, both sizes, and the nearest size that it can have.
    """
    if study.budget is None or "parameters" not in study.budget.equal:
        return
    reference = next(one for one in study.repairs if one.name == (study.budget.to or study.prompt.name))
    wanted = parameters_of(reference, model)
    if wanted is None:
        raise InputError(f"budget.to: {reference.name} is not tuned, so it has no size to be met: name another")
    for spec in study.repairs:
        size = parameters_of(spec, model)
        if size is not None and abs(size - wanted) > study.budget.tolerance * wanted:
            raise InputError(
                f"budget: {spec.name} adds {size:,} parameters and {reference.name} {wanted:,}, more than "
                f"{study.budget.tolerance:.0%} apart: {_advice(spec, model, wanted, study.budget.tolerance)}"
            )


def _advice(spec: Spec, model: PreTrainedModel, wanted: int, tolerance: float) -> str:
    """The nearest size that a repair can have."""
    if not isinstance(spec, SIZED):
        return "let its lengths sum to that size, or leave it out"
    field = "rank" if isinstance(spec, LoraSpec) else "length"
    one = parameters_of(spec.model_copy(update={field: 1}), model)
    assert one is not None
    nearest = max(1, round(wanted / one))
    if abs(nearest * one - wanted) > tolerance * wanted:
        return f"its nearest {field}, {nearest}, adds {nearest * one:,}: set budget.to or tolerance, or leave it out"
    return f"set its {field} to {nearest}"


def check_fits(study: Study, model: PreTrainedModel) -> None:
    """Refuse what has no place in the model or was made for another one.

    Raises:
        InputError: a prompt longer than the context, or a folder of another base.
    """
    positions = longest_content(model)
    for name, length in prompt_lengths(study):
        if length >= positions:
            raise InputError(
                f"{name}: a prompt of {length} leaves no place for content in the model's {positions} positions: "
                "give a shorter one"
            )
    for spec in study.repairs:
        if isinstance(spec, FolderSpec):
            read_adapter(Path(spec.path).expanduser(), model, study.model)


def prompt_lengths(study: Study) -> Iterator[tuple[str, int]]:
    """Every length of a prompt that the study names, with the name of its repair; texts count in tokens elsewhere."""
    for spec in study.repairs:
        whole = spec.of if isinstance(spec, QuantisedSpec | SparseSpec) else spec
        if isinstance(whole, PromptSpec | PTuningSpec | PrefixSpec):
            yield spec.name, whole.length
        elif isinstance(whole, BankSpec):
            yield from ((spec.name, length) for length in whole.lengths)
