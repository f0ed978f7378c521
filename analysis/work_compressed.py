"""Make one compressed copy of the model, prove it, and keep the layers that changed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from analysis.opening import WEIGHTS, calibration_blocks, dense, open_as_planned
from data.errors import InputError
from probes.bake import oriented_weight
from probes.compress import compress
from probes.families import family_of
from probes.specs import AnyCompression, CheckpointSpec


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the changed layers' weights and the proof."""
    opened = dense(fields)
    spec: AnyCompression = TypeAdapter(AnyCompression).validate_json(json.dumps(fields["compression"]))
    if isinstance(spec, CheckpointSpec):
        sha = fields["checkpoint_sha"]
        model = open_as_planned(spec.path, sha, dtype=fields["dtype"], device=fields["device"]).model
        _require_same_shape(opened.model, model, spec.path)
        proof: dict[str, Any] = {"checkpoint": spec.path, "sha": sha}
    else:
        blocks, dropped = calibration_blocks(fields, spec)
        made = compress(opened.model, opened.tokenizer, spec, blocks, seed=fields["seed"])
        model = made.model
        proof = asdict(made.proof) | {"blocks": len(blocks), "blocks_stating_facts_dropped": dropped}
    names = family_of(opened.model).linears_of(opened.model)
    weights = {name: _out_in(model, name) for name in names}
    save_file(weights, folder / WEIGHTS)
    (folder / "proof.json").write_text(json.dumps(proof, indent=1) + "\n")


def _out_in(model: Any, name: str) -> torch.Tensor:
    """A layer's weight as [out, in], whatever the family's own layout."""
    return oriented_weight(model, name).contiguous()


def _require_same_shape(dense_model: Any, other: Any, path: str) -> None:
    """A checkpoint must be the dense model's architecture, and must differ from it in its layers alone."""
    ours = {name: tensor.shape for name, tensor in dense_model.state_dict().items()}
    theirs = {name: tensor.shape for name, tensor in other.state_dict().items()}
    if ours != theirs:
        odd = next(iter(set(ours.items()) ^ set(theirs.items())))[0]
        raise InputError(f"checkpoint '{path}' is not of the dense model's architecture: they differ at {odd}")
    names = {f"{name}.weight" for name in family_of(dense_model).linears_of(dense_model)}
    for name, tensor in dense_model.state_dict().items():
        if name not in names and not torch.equal(tensor, other.state_dict()[name]):
            raise InputError(
                f"checkpoint '{path}' also changes {name}, outside the blocks' linear layers: it was tuned "
                "after compression, or comes from another model"
            )
