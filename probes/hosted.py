"""Which models are a hub repository's own, weights and all: what a host that holds the repository computes too.

A model is remembered as an object, with where each of its tensors lies and how often it was written to. A copy is
another object, compressed and adapted ones among them; a weight that is changed or replaced shows in its place.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, as a user names it: `owner/name` or `owner/name@revision`."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str) -> "HubName":
        """Read a name that is known to be the hub's."""
        repository, _, revision = name.partition("@")
        return cls(repository, revision or None)


State = dict[str, tuple[int, int]]
_OPENED: WeakKeyDictionary[PreTrainedModel, tuple[HubName, State]] = WeakKeyDictionary()


def remember_hub(model: PreTrainedModel, name: HubName) -> None:
    """Note that the model is, as it stands, what the repository holds."""
    _OPENED[model] = name, _state_of(model)


def hub_of(model: PreTrainedModel) -> HubName | None:
    """The repository whose weights the model has; None where it was opened elsewhere, copied or changed."""
    name, state = _OPENED.get(model, (None, None))
    return name if state == _state_of(model) else None


def _state_of(model: PreTrainedModel) -> State:
    # Of parameters and what is saved with them: a rotary table, which is not, may be made anew in a pass.
    held = model.state_dict(keep_vars=True)
    return {name: (tensor.data_ptr(), tensor._version) for name, tensor in held.items()}
