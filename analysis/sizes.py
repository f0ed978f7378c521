"""How large a repair will be and whether it fits, from the model's shape and before anything is tuned or written."""

from transformers import PreTrainedModel

from analysis.study import Study
from data.errors import InputError
from probes.inputs import longest_content
from probes.repairs.registry import work_of
from probes.specs.repairs.base import Repair


def parameters_of(repair: Repair, model: PreTrainedModel) -> int | None:
    """Numbers that a tuned repair adds to this model (its weights may be missing); None for one that is not tuned."""
    return work_of(repair).parameters(repair, model)


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


def _advice(repair: Repair, model: PreTrainedModel, wanted: int, tolerance: float) -> str:
    """The nearest size that a repair can have."""
    if not repair.sized_by:
        return "let its lengths sum to that size, or leave it out"
    field = repair.sized_by
    one = parameters_of(repair.model_copy(update={field: 1}), model)
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
    for repair in study.repairs:
        for length in repair.prompt_lengths:
            if length >= positions:
                raise InputError(
                    f"{repair.name}: a prompt of {length} leaves no place for content in the model's {positions} "
                    "positions: give a shorter one"
                )
        work_of(repair).check(repair, model, study.model)
