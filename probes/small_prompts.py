"""Tuned prompts and prefixes made smaller after tuning, kept in the form whose bytes are counted.

Quantised: round to nearest, asymmetric, per token (KIVI, arXiv 2402.02750, section 2). For each vector x of b bits

1. z = min x, s = (max x - min x) / (2^b - 1), both kept in half precision,
2. q = round((x - z) / s), of which 8 / b share a byte,
3. read back as q s + z.

Sparse: the largest numbers by magnitude are kept as they are, over all vectors together, with one bit a number to say
which they are; the others are zero (magnitude pruning, Han et al., arXiv 1506.02626).

What would count against a repair as evidence: that a few bits of it, too few to state the facts, return as much.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.errors import InputError

Vectors = Float[Tensor, "vector number"]
Packed = dict[str, Tensor]
"""What is stored: tensors by name."""
SCALE = torch.float16


def quantise(vectors: Vectors, bits: int) -> Packed:
    """Codes in few bits, a scale and a minimum for each vector.

    Raises:
        InputError: numbers too far apart for a scale in half precision.
    """
    held = vectors.detach().float().cpu()
    minimum = held.amin(dim=1, keepdim=True).to(SCALE)
    scale = ((held.amax(dim=1, keepdim=True) - minimum.float()) / (2**bits - 1)).to(SCALE)
    if not (torch.isfinite(minimum).all() and torch.isfinite(scale).all()):
        raise InputError("a prompt's numbers are too large to be quantised: lower its learning_rate")
    # A vector of equal numbers has no scale, and its codes are all zero.
    steps = torch.where(scale > 0, (held - minimum.float()) / scale.float().clamp(min=1e-12), 0.0)
    codes = steps.round().clamp(0, 2**bits - 1).to(torch.uint8)
    return {"codes": _pack(codes, bits), "scale": scale, "minimum": minimum}


def keep_largest(vectors: Vectors, sparsity: float) -> Packed:
    """The largest numbers in the order in which they stand, and one bit a number to say where they stand.

    Raises:
        InputError: nothing would be kept.
    """
    held = vectors.detach().cpu()
    kept = held.numel() - round(sparsity * held.numel())
    if not kept:
        raise InputError(f"a sparsity of {sparsity} keeps none of a prompt's {held.numel()} numbers: lower it")
    mask = torch.zeros(held.numel(), dtype=torch.bool)
    mask[held.flatten().abs().float().topk(kept).indices] = True
    return {"values": held.flatten()[mask], "mask": torch.from_numpy(np.packbits(mask.numpy()))}


def save_small(packed: Packed, path: Path, *, shape: tuple[int, ...], bits: int | None = None) -> None:
    """Write what is stored, with the shape that it has when read back."""
    told = {"vectors": str(shape[0]), "numbers": str(shape[1])} | ({} if bits is None else {"bits": str(bits)})
    save_file(packed, path, metadata=told)


def load_small(path: Path, dtype: torch.dtype) -> Vectors:
    """Read back what `save_small` wrote, as plain vectors."""
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    shape = int(told["vectors"]), int(told["numbers"])
    if "mask" in packed:
        flat = torch.zeros(shape[0] * shape[1], dtype=packed["values"].dtype)
        flat[torch.from_numpy(np.unpackbits(packed["mask"].numpy(), count=len(flat)).astype(bool))] = packed["values"]
        return flat.reshape(shape).to(dtype)
    codes = _unpack(packed["codes"], int(told["bits"]), shape[1])
    return (codes.float() * packed["scale"].float() + packed["minimum"].float()).to(dtype)


def _pack(codes: Int[Tensor, "vector number"], bits: int) -> Int[Tensor, "vector byte"]:
    """Several codes to a byte, each vector's last byte filled up with zeros."""
    each = 8 // bits
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[1] % each)).unflatten(1, (-1, each)).int()
    return (padded << (bits * torch.arange(each))).sum(dim=2).to(torch.uint8)


def _unpack(packed: Int[Tensor, "vector byte"], bits: int, numbers: int) -> Int[Tensor, "vector number"]:
    """The codes that a row of bytes holds."""
    places = bits * torch.arange(8 // bits)
    return ((packed.int()[:, :, None] >> places) & (2**bits - 1)).flatten(1)[:, :numbers]
