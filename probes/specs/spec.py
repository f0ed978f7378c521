"""The base of every value of a study: frozen, and strict about its keys."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
