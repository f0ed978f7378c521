"""Ready quantised checkpoints: which of them can be made dense here, and how that is done and verified.

A format is known from a folder's configuration, so that one which cannot be opened is refused before a weight is read.
"""

import copy
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, PreTrainedModel

from data.errors import InputError
from probes.bake import compare_logits, most_levels, oriented_weight, quiet
from probes.stored import check_read

COMPRESSED = "compressed-tensors"
FORMATS = (
    *("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision"),
    *("nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized"),
)
"""The forms in which compressed-tensors keeps weights, as far as they are opened."""
_SIDES = ("input_activations", "output_activations")
_INSTEAD = f"open one in the {COMPRESSED} format, a GGUF file, or the dense model and compress that"


@dataclass(frozen=True)
class Quantisation:
    """How a folder says that its weights are quantised."""

    method: str
    format: str | None
    """Of the method, where it has several."""


def quantisation_of(name: str, folder: Path) -> Quantisation | None:
    """How a model's weights are quantised, from its folder's configuration; None where they are not.

    Args:
        name: of the model, for sentences.
        folder: with its configuration.

    Raises:
        InputError: in a way that cannot be opened, named; or the configuration does not open.
    """
    scheme = _scheme(folder)
    if scheme is None:
        return None
    method = scheme.get("quant_method")
    if method != COMPRESSED:
        shown = "an unnamed method" if method is None else str(method)
        raise InputError(f"model '{name}' is quantised with {shown}, which is not opened here: {_INSTEAD}")
    if importlib.util.find_spec("compressed_tensors") is None:
        raise InputError(
            f"model '{name}' is quantised with {COMPRESSED}, and that library is not installed: pip install "
            f"{COMPRESSED}"
        )
    _check_formats(name, scheme)
    _check_weights_alone(name, scheme)
    return Quantisation(COMPRESSED, scheme.get("format"))


def _scheme(folder: Path) -> Mapping[str, Any] | None:
    """What a folder's configuration says of its quantisation."""
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f"model '{folder}': the folder has no config.json, so it is not a saved model")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        scheme = config.get("quantization_config") or config.get("compression_config")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} is not a JSON object: save the model again") from error
    if scheme is not None and not isinstance(scheme, dict):
        raise InputError(f"{file}: its quantization_config is no JSON object: save the model again")
    return scheme


def _groups(scheme: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [group for group in (scheme.get("config_groups") or {}).values() if isinstance(group, dict)]


def _check_formats(name: str, scheme: Mapping[str, Any]) -> None:
    """Refuse weights in a form that is not opened, among them zeros that are left out and kept as a bit mask."""
    sparse = (scheme.get("sparsity_config") or {}).get("format")
    named = [scheme.get("format"), *(group.get("format") for group in _groups(scheme))]
    unknown = [one for one in named if one is not None and one not in FORMATS]
    unknown += [sparse] if sparse not in (None, "dense") else []
    if unknown:
        raise InputError(
            f"model '{name}' keeps its weights in the form {unknown[0]} of {COMPRESSED}, which is not opened here: "
            f"{_INSTEAD}"
        )
    if scheme.get("transform_config"):
        raise InputError(
            f"model '{name}' turns its activations while it runs (transform_config), which a dense model cannot carry: "
            f"{_INSTEAD}"
        )


def _check_weights_alone(name: str, scheme: Mapping[str, Any]) -> None:
    if any(group.get(side) for group in _groups(scheme) for side in _SIDES) or scheme.get("kv_cache_scheme"):
        raise InputError(
            f"model '{name}' quantises activations or the cache as well, which a dense model cannot carry: open a "
            "checkpoint that quantises weights alone"
        )


def open_checkpoint_dense(path: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    """Open a local folder saved in the compressed-tensors format as a plain dense model, verified.

    Raises InputError if the folder holds no such checkpoint, needs a library that is not installed, or
    quantises activations too; RuntimeError if the dense model is not the one the library runs.
    """
    if quantisation_of(str(path), Path(path)) is None:
        raise InputError(f"model '{path}' is not quantised (no quantization_config): open it as a dense model")
    with quiet():
        read: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            quantization_config=CompressedTensorsConfig(dequantize=True),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    opened, told = read
    check_read(str(path), told, opened)
    _bring_to(opened.eval(), dtype)
    # The library's layers keep their scales and schemes, which would be saved again: move to a clean model.
    config = type(opened.config).from_dict(
        {key: value for key, value in opened.config.to_dict().items() if key != "quantization_config"}
    )
    dense = type(opened)._from_config(config, dtype=dtype).eval()
    weights = opened.state_dict()
    dense.load_state_dict({name: weights[name] for name in dense.state_dict()})
    dense.tie_weights()
    dense.generation_config = copy.deepcopy(opened.generation_config)
    _verify_opened(opened, dense)
    return dense


def _bring_to(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast weights that the library made in a dtype of its own: those of 4 and 8 bit floats are bfloat16 whatever is
    asked."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)


def _verify_opened(opened: PreTrainedModel, dense: PreTrainedModel) -> None:
    """Check coarseness, left-over scales and logits of an opened checkpoint."""
    names = [name for name, layer in opened.named_modules() if hasattr(layer, "quantization_scheme")]
    if not names:
        raise RuntimeError("The checkpoint names a quantisation scheme that matches none of its layers.")
    if any(hasattr(layer, "quantization_scheme") for layer in dense.modules()):
        raise RuntimeError("The opened model still carries a quantisation scheme.")
    for name in names:
        layer: Any = opened.get_submodule(name)
        arguments = layer.quantization_scheme.weights
        weight = oriented_weight(dense, name)
        group_size = arguments.group_size if arguments.group_size and arguments.group_size > 0 else None
        if most_levels(weight, group_size) > 2**arguments.num_bits or not bool(torch.isfinite(weight).all()):
            raise RuntimeError(f"{name} is not the {arguments.num_bits}-bit weight its checkpoint declares.")
    length = min(32, getattr(dense.config, "max_position_embeddings", 32))
    block = torch.arange(length) % dense.config.vocab_size
    compare_logits(opened, dense, block)
