"""Make one compressed copy of the model, prove it, and keep the layers that changed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from analysis.opening import WEIGHTS, calibration_blocks, dense, weights_as_planned
from probes.bake import oriented_weight
from probes.compress import compress
from probes.families import family_of
from probes.likeness import check_same_computation, take
from probes.specs.compression import AnyCompression, CheckpointSpec


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the layers' weights, whatever else a ready checkpoint changed, and the proof."""
    opened = dense(fields)
    spec: AnyCompression = TypeAdapter(AnyCompression).validate_json(json.dumps(fields["compression"]))
    if isinstance(spec, CheckpointSpec):
        weights, proof = _taken(fields, opened.model, spec.path)
    else:
        blocks, dropped = calibration_blocks(opened.tokenizer, fields, spec)
        made = compress(opened.model, opened.tokenizer, spec, blocks, seed=fields["seed"])
        names = family_of(opened.model).linears_of(opened.model)
        weights = {name: oriented_weight(made.model, name).contiguous() for name in names}
        proof = asdict(made.proof) | {"blocks": len(blocks), "blocks_stating_facts_dropped": dropped}
    save_file(weights, folder / WEIGHTS)
    (folder / "proof.json").write_text(json.dumps(proof, indent=1) + "\n")


def _taken(fields: dict[str, Any], model: PreTrainedModel, path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Of a ready checkpoint, what takes the place of dense weights, and what was found of it."""
    sha = fields["checkpoint_sha"]
    checkpoint = weights_as_planned(path, sha, dtype=fields["dtype"], device=fields["device"])
    check_same_computation(model.config, checkpoint.config, path, fields["model"])
    taken = take(model, checkpoint, path)
    return taken.layers | taken.outside, {"checkpoint": path, "sha": sha} | asdict(taken.proof)
