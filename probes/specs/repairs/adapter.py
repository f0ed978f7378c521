"""A prompt, a prefix or a LoRA in a folder of peft's, made elsewhere."""

from typing import Any, Literal

from pydantic import Field

from probes.specs.repairs.base import Builder, Repair


class FolderSpec(Repair):
    """A prompt, a prefix or a LoRA in a folder of peft's, made elsewhere: nobody here knows what it has read."""

    kind: Literal["adapter"] = "adapter"
    path: str = Field(min_length=1, title="Folder", examples=["adapters/prompt"])

    @property
    def name(self) -> str:
        """The folder's own name."""
        return f"adapter-{self.path.rstrip('/').rsplit('/', 1)[-1]}"

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder."""
        return (self.path,)

    def cells(self, build: Builder) -> dict[str, Any]:
        """The bytes of its files are all that shapes it."""
        return {"tuned0": build.external(self)}
