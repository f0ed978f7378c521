"""A tuned prompt or prefix of which the largest numbers are kept."""

from jaxtyping import Float
from torch import Tensor

from probes.repairs.small import SmallWork
from probes.small_prompts import Packed, keep_largest
from probes.specs.repairs.sparse import SparseSpec


class SparseWork(SmallWork[SparseSpec]):
    """The largest numbers, and a bit a number that says where they stand."""

    def pack(self, spec: SparseSpec, vectors: Float[Tensor, "vector number"]) -> tuple[Packed, int]:
        """Those that are not zero are counted."""
        packed = keep_largest(vectors, spec.sparsity)
        return packed, packed["values"].numel()


REPAIR = SparseWork()
