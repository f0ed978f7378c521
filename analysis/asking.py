"""What a form asks for a value of a study, found from the value's own fields alone: no list of them is kept here.

A field's type decides by which control it is asked, its bounds and words what may be chosen, its description what is
said of it. `probes/specs/spec.py` says how a field tells where it stands and where a new row starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from analysis.study_files import complaint
from data.errors import InputError
from probes.compression.registry import methods
from probes.specs.compression import CheckpointSpec, CompressionSpec
from probes.specs.repairs.registry import kinds
from probes.specs.spec import Choices

Control = Literal["choice", "several", "flag", "whole", "number", "words", "wholes", "named", "written"]
"""Asked by: one of some words, several of them, yes or no, a whole number, a number, a text, whole numbers with commas
between them, words that anybody may add to, or YAML for all else."""
CONTROLS: Mapping[Any, Control] = {
    **{bool: "flag", int: "whole", float: "number", str: "words"},
    **{tuple[int, ...]: "wholes", tuple[str, ...]: "named"},
}
"""By the type of a field that lists no words."""
NOTHING = "–"
"""Chosen where a field that lists its words may stay empty."""


@dataclass(frozen=True)
class Asked:
    """One field as a form asks for it."""

    name: str
    label: str
    help: str
    control: Control
    default: Any
    """In plain values; None where something has to be told."""
    start: Any
    """Where a new row starts."""
    seen: bool
    """Stands in the row itself, not among the further ones."""
    required: bool
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of a list of words: each as it is shown, and as it is written."""
    low: float | None = None
    high: float | None = None

    def tells(self, value: Any) -> bool:
        """Whether a value says more than the default does."""
        return self.required or value != self.default


@dataclass(frozen=True)
class Kind:
    """One kind of row: what it is called, what it is, and its fields."""

    name: str
    words: str
    chosen_by: str
    """The key that names the kind."""
    spec: type[BaseModel]
    leaves_out: tuple[str, ...] = ()

    @property
    def asked(self) -> tuple[Asked, ...]:
        """Its fields, but for the one that names it."""
        return tuple(one for one in fields_of(self.spec) if one.name not in (self.chosen_by, *self.leaves_out))

    def read(self, told: Mapping[str, Any], where: str) -> Any:
        """The value that keys and values make.

        Raises:
            InputError: what is wrong with the first that is wrong.
        """
        try:
            return self.spec.model_validate(told)
        except ValidationError as error:
            raise InputError(f"{where}: {complaint(error)}") from None


def compression_kinds() -> tuple[Kind, ...]:
    """Every way to compress that a study can name, a ready checkpoint last."""
    made = [Kind(one.name, one.words, "method", CompressionSpec, one.leaves_out) for one in methods()]
    (ready,) = get_args(CheckpointSpec.model_fields["method"].annotation)
    return (*made, Kind(ready, first_line(CheckpointSpec), "method", CheckpointSpec))


def repair_kinds() -> tuple[Kind, ...]:
    """Every repair that a study can name."""
    return tuple(Kind(one.name, one.words, "kind", one.spec) for one in kinds() if not one.arm)


def first_line(spec: type[BaseModel]) -> str:
    """What a value is, as its docstring begins."""
    return (spec.__doc__ or "").strip().split("\n")[0].rstrip(".")


def fields_of(spec: type[BaseModel]) -> tuple[Asked, ...]:
    """The fields of a value, in their order."""
    return tuple(_asked(name, one) for name, one in spec.model_fields.items())


def plain(value: Any) -> Any:
    """A value as YAML has it: a nested one by its keys, without what was left to its default."""
    if isinstance(value, BaseModel):
        return bare(value)
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def bare(spec: BaseModel) -> dict[str, Any]:
    """A value as one would write it: what was left to its default is left out, the word that names its kind is not."""
    fields = type(spec).model_fields
    return {
        name: plain(value)
        for name, value in spec
        if fields[name].is_required() or _names_kind(fields[name]) or value != _default(fields[name])
    }


def _asked(name: str, info: FieldInfo) -> Asked:
    kind, optional = _type_of(info)
    meanings = _meanings(info, kind)
    values = {str(word): word for word in meanings}
    default = plain(_default(info))
    control = _control(kind, values)
    if optional and control == "choice":
        values = {NOTHING: None} | values
    examples = info.examples or ()
    bounds = {key: getattr(one, key) for one in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(one, key)}
    low = bounds.get("ge", bounds.get("gt"))
    first = next(iter(values.values()), low) if info.is_required() else default
    if control == "named" and examples:
        values = {word: word for word in examples[0]}
    return Asked(
        name,
        label=info.title or name.replace("_", " ").capitalize(),
        help=_help(info, meanings),
        control=control,
        default=default,
        start=plain(examples[0]) if examples else first,
        seen=info.is_required() or info.title is not None,
        required=info.is_required(),
        values=values,
        low=low,
        high=bounds.get("le", bounds.get("lt")),
    )


def _default(info: FieldInfo) -> Any:
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _names_kind(info: FieldInfo) -> bool:
    """Whether a field can hold one word alone."""
    return get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1


def _type_of(info: FieldInfo) -> tuple[Any, bool]:
    """A field's type without None, and whether it may be None."""
    parts = get_args(info.annotation)
    others = [one for one in parts if one is not NoneType]
    optional = len(others) < len(parts)
    return (others[0], True) if optional and len(others) == 1 else (info.annotation, optional)


def _meanings(info: FieldInfo, kind: Any) -> Mapping[Any, str]:
    """The words that a field may hold, each with what it means; empty where they are not listed."""
    for one in info.metadata:
        if isinstance(one, Choices):
            return one.offered()
    inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return dict.fromkeys(get_args(inner), "") if get_origin(inner) is Literal else {}


def _control(kind: Any, values: Mapping[str, Any]) -> Control:
    if values:
        return "several" if get_origin(kind) is tuple else "choice"
    return CONTROLS.get(kind, "written")


def _help(info: FieldInfo, meanings: Mapping[Any, str]) -> str:
    """What is said of a field: its description, and what each of its words means."""
    told = " ".join((info.description or "").split())
    return told + "".join(f"\n- {word}: {means}" for word, means in meanings.items() if means)
