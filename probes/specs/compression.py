"""Ways of compressing a model as frozen values, and what each promises of every weight."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from probes.compression.registry import method_of, methods
from probes.specs.spec import Choices, Spec

COLUMNS = 128  # SparseGPT and GPTQ work through a weight this many columns at a time
LABEL = r"^[a-z0-9]+(-[a-z0-9]+)*$"


@dataclass(frozen=True)
class Promise:
    """What every compressed weight must satisfy."""

    sparsity: float | None = None
    """Fraction of zeros, in (0, 1)."""
    unit: Literal["row", "columns", "layer"] = "layer"
    """Where the fraction holds to within one element: each row, each 128 columns, or the whole layer."""
    pattern: tuple[int, int] | None = None
    """(n, m): at most n weights that are not zero among every m neighbours of a row."""
    bits: int | None = None
    """At most 2 ** bits different values in each row and group."""
    group_size: int | None = None
    """Columns in a group; None means the whole row."""


def _quantisers() -> dict[str, str]:
    """Every method that quantises, with what it is."""
    return {one.name: one.words for one in methods() if not one.prunes}


class CompressionSpec(Spec):
    """One way of compressing a model, to be read from a study; equal specifications compress alike."""

    model_config = ConfigDict(strict=True)

    method: str
    """One of `probes/compression`: a quantiser (gptq, rtn) or a pruner (sparsegpt, wanda, magnitude)."""
    bits: Literal[2, 3, 4, 8] | None = Field(default=None, title="Bits", examples=[3])
    """Bits of each weight, for a quantiser."""
    group_size: int | None = Field(default=None, ge=2)
    """Columns that share a scale; None for one scale per output channel."""
    symmetric: bool = True
    """Zero in the middle of the levels; otherwise each group has its own zero point."""
    sparsity: float | None = Field(default=None, gt=0, lt=1, title="Sparsity", examples=[0.5])
    """Fraction of each layer's weights to be zero, for a pruner; a pattern sets it."""
    pattern: str | None = Field(default=None, title="Pattern")
    """`n:m`, at most n weights not zero among every m neighbours of a row, such as "2:4"."""
    then_method: Annotated[str | None, Choices(_quantisers)] = None
    """The quantiser that follows a pruner, keeping its zeros; gptq where only `then_bits` is given."""
    then_bits: Literal[2, 3, 4, 8] | None = None
    """Bits of that quantiser."""
    samples: int = Field(default=128, ge=1, title="Calibration sequences")
    """Number of calibration blocks."""
    block_length: int = Field(default=512, ge=1, title="Tokens per sequence")
    """Tokens in a calibration block."""
    label: str | None = Field(default=None, pattern=LABEL)
    """What tells it apart from a recipe that is read aloud alike, such as the same bits from fewer samples."""

    @field_validator("method", "then_method")
    @classmethod
    def _method_is_there(cls, value: str | None) -> str | None:
        if value is not None:
            method_of(value)
        return value

    @field_validator("pattern", mode="before")
    @classmethod
    def _pattern_is_text(cls, value: object) -> object:
        if value is not None and not isinstance(value, str):
            raise ValueError('pattern must be text such as "2:4": quote it, as YAML reads a bare 2:4 as 124')
        return value

    @field_validator("pattern")
    @classmethod
    def _pattern_is_possible(cls, value: str | None) -> str | None:
        if value is not None:
            kept, among = pattern_of(value)
            if not (0 < kept < among and COLUMNS % among == 0):
                raise ValueError(f"pattern {value!r} must keep n of m weights, 0 < n < m, m dividing {COLUMNS}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: object) -> object:
        """Write down what follows from other fields, so that two spellings of one recipe are equal."""
        if not isinstance(given, dict):
            return given
        pattern = given.get("pattern")
        if isinstance(pattern, str) and given.get("sparsity") is None:
            kept, among = pattern_of(pattern)
            given = given | {"sparsity": 1 - kept / among}
        if given.get("then_bits") is not None and given.get("then_method") is None:
            given = given | {"then_method": "gptq"}
        return given

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        prunes = method_of(self.method).prunes
        wrong = {
            f"{self.method} needs bits: 2, 3, 4 or 8": not prunes and self.bits is None,
            f"{self.method} quantises: leave out sparsity and pattern": not prunes and self.sparsity is not None,
            f"{self.method} already quantises: leave out then_method and then_bits": not prunes
            and self.then_method is not None,
            f"{self.method} needs sparsity or pattern": prunes and self.sparsity is None,
            f"{self.method} prunes: for bits as well, set then_bits": prunes and self.bits is not None,
            f"then_method: {self.then_method} prunes; name a quantiser": self.then_method is not None
            and method_of(self.then_method).prunes,
            "then_method needs then_bits: 2, 3, 4 or 8": self.then_method is not None and self.then_bits is None,
            "group_size and symmetric say how to quantise, and nothing here quantises": self.quantiser is None
            and (self.group_size is not None or not self.symmetric),
        }
        if self.pattern is not None and self.sparsity is not None:
            kept, among = pattern_of(self.pattern)
            wrong[f"sparsity {self.sparsity:g} contradicts pattern {self.pattern}; leave sparsity out"] = (
                abs(self.sparsity - (1 - kept / among)) > 1e-9
            )
        for sentence, is_so in wrong.items():
            if is_so:
                raise ValueError(sentence)
        return self

    @property
    def pruner(self) -> str | None:
        """The pruning method, or None."""
        return self.method if method_of(self.method).prunes else None

    @property
    def quantiser(self) -> str | None:
        """The quantising method, first or second, or None."""
        return self.then_method if method_of(self.method).prunes else self.method

    @property
    def quantiser_bits(self) -> int | None:
        """Bits of each weight in the end, or None."""
        return self.bits or self.then_bits

    @property
    def name(self) -> str:
        """The recipe read aloud, such as `sparsegpt-2:4+gptq-4bit-g64`."""
        parts = []
        if self.pruner is not None and self.sparsity is not None:
            parts.append(f"{self.pruner}-{self.pattern or f'{100 * self.sparsity:g}%'}")
        if self.quantiser is not None:
            group = "" if self.group_size is None else f"-g{self.group_size}"
            parts.append(f"{self.quantiser}-{self.quantiser_bits}bit{group}{'' if self.symmetric else '-asym'}")
        return "+".join(parts) + (f"-{self.label}" if self.label else "")

    @property
    def promise(self) -> Promise:
        """What every compressed weight must satisfy."""
        return Promise(
            sparsity=self.sparsity,
            unit=method_of(self.method).unit,
            pattern=pattern_of(self.pattern) if self.pattern else None,
            bits=self.quantiser_bits,
            group_size=self.group_size,
        )

    @property
    def checkpoint(self) -> str | None:
        """Where a ready checkpoint lies; None, since this one is made here."""
        return None


def pattern_of(pattern: str) -> tuple[int, int]:
    """Read `n:m`."""
    kept, _, among = pattern.partition(":")
    if not (kept.isdecimal() and among.isdecimal() and int(among) > 0):
        raise ValueError(f"pattern {pattern!r} must be written n:m, such as 2:4")
    return int(kept), int(among)


class CheckpointSpec(Spec):
    """A ready compressed checkpoint of the same architecture, opened and made dense instead of made here."""

    method: Literal["checkpoint"]
    path: str = Field(title="Folder or file", examples=["checkpoints/model"])
    label: str | None = Field(default=None, pattern=LABEL)
    """What tells it apart from another folder of the same name."""

    @property
    def checkpoint(self) -> str:
        """Where it lies."""
        return self.path

    @property
    def name(self) -> str:
        """The folder's or file's own name, and the label where there is one."""
        own = self.path.rstrip("/").rsplit("/", 1)[-1]
        return f"checkpoint-{own}" + (f"-{self.label}" if self.label else "")


AnyCompression = CompressionSpec | CheckpointSpec
