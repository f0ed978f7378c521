"""The keys of a GGUF file: each is read, known to change no number, or refused by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.errors import InputError
from probes.gguf_files import GgufFile

ANOTHER = "open the model that it was made from, as safetensors, or another conversion of it"
_NOTHING = (0, False, None)
_ONE = (0, 1)
NEUTRAL_KEYS: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": _NOTHING,
    "attention.max_alibi_bias": _NOTHING,
    "attn_logit_softcapping": _NOTHING,
    "embedding_scale": _ONE,
    "expert_count": _NOTHING,
    "expert_used_count": _NOTHING,
    "final_logit_softcapping": _NOTHING,
    "leading_dense_block_count": _NOTHING,
    "logit_scale": _ONE,
    "nextn_predict_layers": _NOTHING,
    "pooling_type": _NOTHING,
    "residual_scale": _ONE,
    "tensor_data_layout": ("Meta AI original pth",),
    "use_parallel_residual": _NOTHING,
}
"""Keys of an architecture with the values that leave its numbers as they are: with any other a file is refused."""


@dataclass
class Keys:
    """An architecture's keys in one file, of which each is to be read once."""

    file: GgufFile
    told: list[str] = field(default_factory=list)
    """What was read beside the weights, as sentences."""
    read: set[str] = field(default_factory=set)
    """Tensors that were read as keys are: they say something of the model and are none of its weights."""
    _left: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        prefix = f"{self.file.architecture}."
        self._left = {
            name.removeprefix(prefix): value for name, value in self.file.keys.items() if name.startswith(prefix)
        }

    def number(self, name: str, default: float | None = None) -> float:
        """A key's number, which a file may leave out only where there is a default; the same for every layer."""
        value = self._left.pop(name, default)
        if isinstance(value, list) and value and value.count(value[0]) == len(value):
            value = value[0]
        if value is None:
            raise self.refusal(name, "is not in the file")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refusal(name, f"({_shown(value)}) is no single number")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """A key's number, where it counts something."""
        value = self.number(name, default)
        if value != int(value) or value < 1:
            raise self.refusal(name, f"({value}) is no count")
        return int(value)

    def text(self, name: str, default: str) -> str:
        """A key's text."""
        return str(self._left.pop(name, default))

    def skip(self, name: str) -> None:
        """Leave out a key that no number follows from."""
        self._left.pop(name, None)

    def require(self, name: str, fits: Callable[[float], bool], asked: str) -> None:
        """Refuse a key's number unless it is absent or as the rest of the model has it."""
        if name in self._left:
            value = self.number(name)
            if not fits(value):
                raise self.refusal(name, f"is {value:g}, where this model can be read only with {asked}")

    def finish(self) -> None:
        """Refuse whatever was not read, unless it is known to change nothing."""
        for name, value in self._left.items():
            if name not in NEUTRAL_KEYS or value not in NEUTRAL_KEYS[name]:
                raise self.refusal(name, f"({_shown(value)}) may change what the model computes and is not read here")

    def refusal(self, name: str, why: str) -> InputError:
        """The sentence that names a key."""
        return InputError(f"model '{self.file.path}': its key {self.file.architecture}.{name} {why}: {ANOTHER}")


def _shown(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:60]}..."
