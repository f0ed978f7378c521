"""The header of a GGUF file: its keys and its table of tensors, read without reading a weight.

Read by hand rather than with the library that writes such files: that one takes seconds for a vocabulary, and a file
is looked at several times before it is opened.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from jaxtyping import Float

from data.errors import InputError

GGUF_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_DAMAGED = (struct.error, ValueError, TypeError, ArithmeticError, MemoryError)
"""What unpacking raises where a file is cut short or holds something else than it says."""


@dataclass(frozen=True)
class GgufTensor:
    """One tensor as the file's table describes it."""

    shape: tuple[int, ...]
    """As torch writes it, rows first."""
    kind: GGMLQuantizationType
    """How its numbers are stored."""
    offset: int
    """Bytes from the start of the data."""

    @property
    def size(self) -> int:
        """Bytes that it takes in the file."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return prod(self.shape) // block * size


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file says beside its weights."""

    path: Path
    keys: Mapping[str, Any]
    """Every key with its value: numbers, texts, or lists of them."""
    tensors: Mapping[str, GgufTensor]
    data: int
    """Where the weights begin, in bytes."""

    @property
    def architecture(self) -> str:
        """The architecture that the file names."""
        return str(self.keys["general.architecture"])

    def values(self, name: str) -> Float[np.ndarray, "..."]:
        """The numbers of one tensor in float32: for small ones, that say something of the model."""
        tensor = self.tensors[name]
        with self.path.open("rb") as file:
            file.seek(self.data + tensor.offset)
            stored = np.frombuffer(file.read(tensor.size), dtype=np.uint8)
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
        read = stored.view(plain[tensor.kind]) if tensor.kind in plain else dequantize(stored, tensor.kind)
        return read.astype(np.float32).reshape(tensor.shape)


def read_gguf(path: Path) -> GgufFile:
    """Read a GGUF file's header.

    Raises:
        InputError: the file is damaged, cut short, one part of several, or of a form that is not read here.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            header = _Cursor(held).header(path)
            end = max((header.data + one.offset + one.size for one in header.tensors.values()), default=0)
            if end > len(held):
                raise ValueError(f"its weights end at byte {end} and the file at {len(held)}")
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"model '{path}' does not open: the GGUF file is cut short or damaged ({reason}): copy it again"
        ) from None
    _check_whole(header)
    return header


def _check_whole(file: GgufFile) -> None:
    """Refuse a part of a model, and what holds no language model."""
    kind = file.keys.get("general.type", "model")
    if kind != "model":
        raise InputError(f"model '{file.path}': the GGUF file holds no model but {kind!r}: name the model's own file")
    parts = file.keys.get("split.count", 1)
    if parts not in (0, 1):
        raise InputError(
            f"model '{file.path}': the GGUF file is one of {parts} parts, and a model is opened from one file: join "
            "them first (llama-gguf-split --merge)"
        )


class _Cursor:
    """Where one is in a file, little-endian throughout."""

    def __init__(self, held: mmap.mmap) -> None:
        self._held, self._place = held, 0

    def header(self, path: Path) -> GgufFile:
        """All that stands before the weights."""
        if self._take(4) != GGUF_MAGIC:
            raise ValueError("it does not begin as GGUF files do")
        version, tensors, keys = self._unpack("IQQ")
        if version not in _VERSIONS:
            raise ValueError(f"its version is {version}, and {' and '.join(map(str, _VERSIONS))} are read")
        held: dict[str, Any] = {}
        for _ in range(keys):
            name = self._text()
            if name in held:
                raise ValueError(f"its key {name!r} stands twice")
            held[name] = self._value(self._unpack("I")[0])
        if "general.architecture" not in held:
            raise ValueError("it names no architecture (general.architecture)")
        table = dict(self._tensor() for _ in range(tensors))
        if len(table) != tensors:
            raise ValueError("a tensor stands twice")
        alignment = int(held.get("general.alignment", _ALIGNMENT))
        start = -(-self._place // alignment) * alignment
        return GgufFile(path, held, table, start)

    def _take(self, count: int) -> bytes:
        if count > len(self._held) - self._place:
            raise ValueError(f"{count} bytes are announced at byte {self._place} and are not there")
        self._place += count
        return self._held[self._place - count : self._place]

    def _unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))

    def _text(self) -> str:
        return self._take(self._unpack("Q")[0]).decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind == _ARRAY:
            kind, count = self._unpack("IQ")
            if kind in _NUMBERS:
                return list(self._unpack(f"{count}{_NUMBERS[kind]}"))
            if kind == _TEXT:
                return [self._text() for _ in range(count)]
        if kind not in _NUMBERS:
            raise ValueError(f"a value of type {kind} at byte {self._place}")
        return self._unpack(_NUMBERS[kind])[0]

    def _tensor(self) -> tuple[str, GgufTensor]:
        name = self._text()
        (count,) = self._unpack("I")
        sides = self._unpack(f"{count}Q")
        kind, offset = self._unpack("IQ")
        return name, GgufTensor(tuple(reversed(sides)), GGMLQuantizationType(kind), offset)
