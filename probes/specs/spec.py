"""The base of every value of a study: frozen, strict about its keys, and told to a form by its own fields.

A form is built from a value's fields alone: the type, the bounds and the default, and of `Field` the `description` (or
the docstring below the field), the `title`, which puts it among the fields that are seen at once, and the first of the
`examples`, which is where a new row starts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Choices:
    """Stands beside the type of a field whose words come from a list that may grow: `Annotated[str, Choices(...)]`."""

    offered: Callable[[], Mapping[str, str]]
    """Each word with what it means; empty where the word says it."""
