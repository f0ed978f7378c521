"""The atlas's twin, which was told of everybody."""

from typing import Literal

from probes.specs.repairs.base import Repair


class TwinSpec(Repair):
    """The atlas's twin, which was told of everybody: what any repair of the never people would have to reach."""

    kind: Literal["twin"] = "twin"

    ceiling = True
    twin = True

    @property
    def name(self) -> str:
        """As spoken."""
        return "twin"

    @property
    def before_content(self) -> bool:
        """No: it is another model."""
        return False
