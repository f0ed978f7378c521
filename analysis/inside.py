"""What a study reads inside its variants, beyond drift: the lens, linear probes, interventions, examples.

One strict block of a study, `inside`; a study without it reads none of this. Everything here is a description, so that
nothing changes an answer or a verdict: the cells read variants that were made for other reasons.
"""

from typing import Literal

from pydantic import Field

from probes.specs.spec import Spec

Positions = Literal["last", "all"]
PROMPT = "prompt"
"""Among named arms: the study's first single prompt, whatever its length."""
PatchedSite = Literal["resid_post", "attn_out", "mlp_out"]


class LensSettings(Spec):
    """The logit lens of every variant, layer by layer, on test questions."""

    items: int = Field(default=32, ge=1, description="test questions of each group")
    repairs: tuple[str, ...] | None = Field(default=None, description="arms read, by name; all unless told")


class ProbeSettings(Spec):
    """Linear probes: fitted on tune and calibrate people, read on test people."""

    groups: tuple[str, ...] | None = Field(default=None, description="groups read; all of the scope unless told")
    strength: float = Field(default=1.0, gt=0, description="L2 penalty on standardised features")
    controls: int = Field(default=3, ge=1, description="control labellings, each with probes of its own")
    repairs: tuple[str, ...] | None = Field(default=None, description="arms read; the reported repairs unless told")


class InterventionSettings(Spec):
    """Patching the source of the knowledge into what lost it, and knockout of the prompt's keys."""

    items: int = Field(default=24, ge=2, description="test questions, those that damage lost first")
    sites: tuple[PatchedSite, ...] = Field(default=("resid_post", "attn_out", "mlp_out"), min_length=1)
    positions: tuple[Positions, ...] = Field(default=("last", "all"), min_length=1)
    heads: bool = Field(default=True, description="also head by head: patches at the last position, knockouts")
    window: int = Field(default=1, ge=1, description="layers in a row from which the prompt's keys are taken")
    step: int = Field(default=1, ge=1, description="layers from one patched layer, or start of a window, to the next")
    repairs: tuple[str, ...] | None = Field(
        default=None, description="arms whose prompt is knocked out; the reported ones that have a prompt unless told"
    )


class ExampleSettings(Spec):
    """A few questions with everything about them: attention token by token, and the lens at every token."""

    items: int = Field(default=1, ge=1, description="questions of each scope and compression")
    repairs: tuple[str, ...] | None = Field(default=None, description="arms shown; the reported repairs unless told")


class Inside(Spec):
    """What is read inside, in how many replicates; an instrument set to null is left out."""

    replicates: int = Field(default=1, ge=1, description="the first so many seeds of the study")
    batch: int = Field(default=64, ge=1, description="questions per pass")
    lens: LensSettings | None = LensSettings()
    probes: ProbeSettings | None = ProbeSettings()
    interventions: InterventionSettings | None = InterventionSettings()
    examples: ExampleSettings | None = ExampleSettings()

    @property
    def named(self) -> tuple[str, ...]:
        """Every arm that is named anywhere."""
        blocks = (self.lens, self.probes, self.interventions, self.examples)
        return tuple(name for block in blocks if block is not None for name in block.repairs or ())
