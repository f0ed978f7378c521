"""How far the same model lies from itself: the noise below which no difference between variants can be told.

    batch_plan         dense, a sequence by itself, against the same sequence among others
    sdpa               dense with fused attention against dense with eager attention; it returns no pattern
    bfloat16           dense in bfloat16 against dense in float32, whichever of the two the study runs in; dense in
                       float32 against dense in float16 where it runs in that
    calibration_draw   the same compression calibrated on the next replicate's draw, against this replicate's

The first three are properties of the dense model: one drift cell of a scope measures them. The last belongs to a
compressed copy, and needs a second replicate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.opening import dense, open_as_planned, parent_model
from probes.capture import Recorder
from probes.sharing import share_weights
from probes.sites import Kind, Site
from probes.variants import Variant

OPENED = ("sdpa", "bfloat16", "calibration_draw")
"""Floors that take a model of their own."""


def other_precision(dtype: str) -> str:
    """What a study's precision is measured against: float32, or bfloat16 where it runs in float32 itself.

    A study in float16 that was measured against bfloat16 would be told the noise of the coarser of the two.
    """
    return "bfloat16" if dtype == "float32" else "float32"


@dataclass(frozen=True)
class Double:
    """A model that should be its reference's equal, ready to be read."""

    variant: Variant
    reference: str
    recorder: Recorder
    sites: tuple[Site, ...]


def doubles_of(
    names: Sequence[str],
    fields: dict[str, Any],
    needs: dict[str, Path],
    sites: tuple[Site, ...],
    rows: list[list[int]],
) -> dict[str, Double]:
    """Open the models of these floors and gate each; `needs` are the parts of the second calibration draw."""
    backend = fields["drift"]["backend"]
    opened = dense(fields)
    found: dict[str, Double] = {}
    for name in names:
        kept = sites
        if name == "sdpa":
            model = share_weights(opened.model)
            model.set_attn_implementation("sdpa")
            kept = tuple(site for site in sites if site.kind != Kind.PATTERN)
        elif name == "bfloat16":
            # Opened in it, as a study in bfloat16 would, and not cast: a cast would round the rotary frequencies too.
            sha, other = fields["model_sha"], other_precision(fields["dtype"])
            model = open_as_planned(fields["model"], sha, dtype=other, device=fields["device"]).model
        else:
            model = parent_model(fields, needs).model
        # The bridge has an attention of its own: fused attention is Hugging Face's.
        recorder = Recorder(model, backend="hooks" if name == "sdpa" else backend)
        variant = Variant(name, model, opened.tokenizer)
        recorder.parity(variant.inputs(rows), kept).require()
        found[name] = Double(variant, "parent" if name == "calibration_draw" else "dense", recorder, kept)
    return found
