"""What a backend that asks a host can read of a study: the hub's own model, and prompts before it."""

from analysis.cell import Plan
from data.errors import InputError
from probes.backends import HOSTED
from probes.models import hub_name
from probes.repairs.registry import work_of
from probes.specs.variants import spec_of

ALWAYS = "batch_plan"


def check_hosted(plan: Plan) -> None:
    """Refuse a study whose drift would have to read what no host holds, where it is to be read on one.

    Raises:
        InputError: naming the first such thing, and what to change.
    """
    study, backend = plan.study, plan.study.drift.backend
    if backend not in HOSTED:
        return
    if hub_name(study.model) is None:
        raise InputError(
            f"drift.backend: {backend} reads a model where the hub's weights are hosted, and '{study.model}' is not of "
            "the hub: name one that is (model: owner/name), or set another drift.backend"
        )
    if other := [floor for floor in study.drift.floors if floor != ALWAYS]:
        raise InputError(
            f"drift.floors: {other[0]} takes a model that no host holds, and {backend} reads hosted ones: set "
            f"drift.floors=[{ALWAYS}], or another drift.backend"
        )
    read = [spec_of(stored) for cell in plan.of("drift") for stored in cell.fields["variants"]]
    if compressed := [variant.compression.name for variant in read if variant.compression is not None]:
        raise InputError(
            f"drift.backend: {backend} reads a model as it is hosted, and drift around '{compressed[0]}' reads a "
            "compressed copy: set drift.around=dense, or another drift.backend"
        )
    for variant in read:
        if variant.repair is not None and not work_of(variant.repair).only_vectors(variant.repair):
            raise InputError(
                f"drift.backend: {backend} reads a model as it is hosted, with prompts before it, and "
                f"'{variant.name}' is changed inside: leave {variant.repair.name} out, or set another drift.backend"
            )
