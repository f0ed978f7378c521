"""The one list of model families: a new one is a file beside this and a line here.

A model of none of them is refused by name rather than guessed at, since a wrong path yields plausible numbers.
"""

from transformers import PreTrainedModel

from data.errors import InputError
from probes.families import gpt2, gpt_neox, llama, opt, qwen2
from probes.families.family import Family
from probes.gguf_shapes import GgufReading
from probes.specs.registry import Registry

_FAMILIES: Registry[Family] = Registry("model family", [one.FAMILY for one in (llama, qwen2, opt, gpt2, gpt_neox)])

families = _FAMILIES.every
registered = _FAMILIES.with_one_more


def require_supported(model_type: str | None) -> str:
    """Give the type back if models of it can be opened.

    Raises:
        InputError: they cannot; names those that can.
    """
    supported = [family.model_type for family in families()]
    if model_type not in supported:
        raise InputError(f"Models of type {model_type!r} are not supported; open one of type {', '.join(supported)}.")
    return model_type


def family_of(model: PreTrainedModel) -> Family:
    """A model's family, by `config.model_type`, in the layout that its configuration says.

    Raises:
        InputError: it is of none.
    """
    family = _FAMILIES.of(require_supported(getattr(model.config, "model_type", None)))
    return family.configured(family, model.config)


def gguf_readings() -> dict[str, GgufReading]:
    """How GGUF files are read, by the architecture that they name; of the families whose files are read."""
    return {family.model_type: family.gguf for family in families() if family.gguf is not None}
