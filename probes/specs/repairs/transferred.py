"""A repair that was tuned elsewhere: on another compression, or on other things than the study's repairs read."""

from typing import Any, Literal

from probes.specs.compression import AnyCompression
from probes.specs.repairs.base import Builder, MovableRepair, Read, Repair


class TransferredSpec(Repair):
    """A repair that was tuned elsewhere: on another compression, or on other things than the study's repairs read.

    Xu et al. (arXiv 2305.11186) claim that prompts carry over between compressions, data and tasks.
    """

    kind: Literal["transferred"] = "transferred"
    of: MovableRepair
    source: AnyCompression | None
    """The compression it was tuned on; None for the dense model."""
    read: Read = "all"
    """What it was tuned on: what the study's repairs read, running text alone, or facts of these relations alone."""

    @property
    def readable(self) -> bool:
        """No: of what is moved answers alone are asked."""
        return False

    @property
    def name(self) -> str:
        """As spoken: `prompt-8-from-gptq-3bit`, `prompt-8-from-dense-read-text`."""
        source = "dense" if self.source is None else self.source.name
        read = self.read if isinstance(self.read, str) else ",".join(self.read)
        return f"{self.of.name}-from-{source}" + ("" if read == "all" else f"-read-{read}")

    @property
    def drawn_as(self) -> str:
        """What was tuned elsewhere."""
        return self.of.drawn_as

    @property
    def tuned_on(self) -> Read:
        """What it was tuned on."""
        return self.read

    def cells(self, build: Builder) -> dict[str, Any]:
        """What was tuned there, which may stand in the study by itself."""
        return {"tuned0": build.tuned(self.of, over=self.source, read=self.read)}
