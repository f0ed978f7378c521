"""One soft prompt that an encoder made."""

from typing import Any, Literal

from pydantic import Field

from probes.specs.repairs.base import Builder, Repair

EncoderKind = Literal["mlp", "lstm"]


class PTuningSpec(Repair):
    """One soft prompt that an encoder made; kept, it costs what a prompt of its length costs."""

    kind: Literal["ptuning"] = "ptuning"
    length: int = Field(ge=1, title="Tokens", examples=[8], description="number of soft tokens")
    learning_rate: float = Field(gt=0, examples=[0.03])
    encoder: EncoderKind = Field(default="mlp", title="Encoder")
    encoder_width: int | None = Field(
        default=None, ge=1, description="inner width of the encoder; the embeddings' unless given"
    )

    movable = True
    of_vectors = True
    sized_by = "length"

    @property
    def name(self) -> str:
        """As spoken: `ptuning-8`, `ptuning-8-lstm`, `ptuning-8-mlp64`."""
        width = "" if self.encoder_width is None else str(self.encoder_width)
        shape = f"{self.encoder}{width}"
        return f"ptuning-{self.length}" + ("" if shape == "mlp" else f"-{shape}")

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Its own."""
        return (self.length,)

    def cells(self, build: Builder) -> dict[str, Any]:
        """One tuned thing."""
        return {"tuned0": build.tuned(self)}
