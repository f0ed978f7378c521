"""A tuned prompt or prefix kept in few bits."""

from jaxtyping import Float
from torch import Tensor

from probes.repairs.small import SmallWork
from probes.small_prompts import Packed, quantise
from probes.specs.repairs.quantised import QuantisedSpec


class QuantisedWork(SmallWork[QuantisedSpec]):
    """Codes, and a scale and a minimum a vector."""

    def pack(self, spec: QuantisedSpec, vectors: Float[Tensor, "vector number"]) -> tuple[Packed, int]:
        """Every number is kept, in few bits."""
        return quantise(vectors, spec.bits), vectors.numel()

    def settings(self, spec: QuantisedSpec) -> dict[str, int]:
        """How many bits a code has."""
        return {"bits": spec.bits}


REPAIR = QuantisedWork()
