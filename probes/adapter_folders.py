"""Repairs in the folders of peft: prompt tuning, p-tuning, prefix tuning and LoRA, read and written.

    adapter_config.json          peft's words on the method and the base
    adapter_model.safetensors    `prompt_embeddings`, or LoRA's factors by module
    base.json                    ours: the base's type, width, depth and vocabulary; peft looks past it

A folder by peft alone lacks the last one: then what its configuration and its tensors say of the base is all that can
be checked. Weights are safetensors or refused: peft itself would fall back on a pickle. P-tuning and a reparametrised
prefix come without their encoder, since peft too saves what it made.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptLearningConfig, PromptTuningConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.bake import oriented_weight
from probes.families import family_of
from probes.lora import WEIGHTS, load_lora
from probes.prefix_tuning import FlatPrefix, PrefixShape, TunedPrefix
from probes.prompts import STORED_NAME, SoftPrompt

CONFIG, BASE = "adapter_config.json", "base.json"
PROMPTS: dict[str, type[PromptLearningConfig]] = {
    "PROMPT_TUNING": PromptTuningConfig,
    "P_TUNING": PromptEncoderConfig,
}
METHODS = (*PROMPTS, "PREFIX_TUNING", "LORA")
STARTS = (True, False, "gaussian", "orthogonal")
"""Ways in which LoRA's factors start (`init_lora_weights`) that leave the base as it is. The others (OLoRA, PiSSA,
CorDA, LoftQ, ...) take what they start from out of the base's weights, again whenever the folder is opened."""
LORA_SETTINGS = {
    *("peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    *("init_lora_weights", "runtime_config", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
}
"""Settings of LoRA that peft reads as two factors beside a layer, or that change nothing in a model that is asked; any
other that is set changes what is computed, or is of a newer peft, which this one would drop."""
FACTOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True)
class Base:
    """What a model must be for a repair to be its own."""

    name: str
    model_type: str
    width: int
    layers: int
    vocabulary: int

    @classmethod
    def of(cls, model: PreTrainedModel, name: str) -> "Base":
        """Read it off a model; the name is the one by which it is opened."""
        table = cast(nn.Embedding, model.get_input_embeddings()).weight
        depth = len(family_of(model).blocks_of(model))
        return cls(_plain(name), str(model.config.model_type), table.shape[1], depth, table.shape[0])


@dataclass(frozen=True)
class Adapter:
    """What a folder holds, checked against a model."""

    method: str
    """peft's name of it, one of METHODS."""
    tensors: dict[str, Tensor]
    folder: Path

    @property
    def prompt(self) -> SoftPrompt | None:
        """The vectors of a prompt, tuned directly or by an encoder."""
        return self.tensors[STORED_NAME] if self.method in PROMPTS else None

    @property
    def prefix(self) -> FlatPrefix | None:
        """The keys and values of a prefix."""
        return self.tensors[STORED_NAME] if self.method == "PREFIX_TUNING" else None

    def lora(self, model: PreTrainedModel) -> PeftModel:
        """A copy of the model, sharing its weights, with the factors in it."""
        return load_lora(model, self.folder)


def write_prompt(
    folder: Path, prompt: SoftPrompt, model: PreTrainedModel, name: str, method: str = "PROMPT_TUNING"
) -> None:
    """Write a soft prompt as peft's prompt tuning, or as its p-tuning (method `P_TUNING`)."""
    base = Base.of(model, name)
    sizes: dict[str, Any] = {"token_dim": base.width, "num_attention_heads": model.config.num_attention_heads}
    _write(folder, PROMPTS[method], prompt, base, sizes)


def write_prefix(folder: Path, flat: FlatPrefix, model: PreTrainedModel, name: str) -> None:
    """Write a prefix as peft's prefix tuning."""
    shape = PrefixShape.of(model)
    sizes: dict[str, Any] = {"token_dim": shape.heads * shape.head_width, "num_attention_heads": shape.heads}
    _write(folder, PrefixTuningConfig, flat, Base.of(model, name), sizes)


def _write(folder: Path, kind: type[PromptLearningConfig], tensor: Tensor, base: Base, sizes: dict[str, Any]) -> None:
    config = kind(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base.name,
        inference_mode=True,
        num_virtual_tokens=tensor.shape[0],
        num_transformer_submodules=1,
        num_layers=base.layers,
        **sizes,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file({STORED_NAME: tensor.detach().contiguous()}, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))
    _write_base(folder, base)


def write_lora(folder: Path, lora: PeftModel, model: PreTrainedModel, name: str) -> None:
    """Write an adapter over this model as peft does, by the name of its base."""
    base = Base.of(model, name)
    lora.peft_config["default"].base_model_name_or_path = base.name
    # By itself peft would look the base's name up on the hub, to see whether its vocabulary was changed.
    lora.save_pretrained(str(folder), save_embedding_layers=False)
    _write_base(folder, base)


def _write_base(folder: Path, base: Base) -> None:
    (folder / BASE).write_text(json.dumps(asdict(base), indent=1) + "\n")


def folder_sha(folder: Path) -> str:
    """Hash of the files of a folder that shape what it is.

    Raises:
        InputError: there is no such folder, or it is none of peft's.
    """
    check_settings(folder)
    digest = hashlib.sha256()
    for path in (folder / CONFIG, folder / WEIGHTS, folder / BASE):
        digest.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def method_of(folder: Path) -> str:
    """peft's name of the method whose repair a folder holds, its tensors unread.

    Raises:
        InputError: there is no such folder, or it is none of peft's.
    """
    return str(_json(folder / CONFIG).get("peft_type"))


def read_adapter(folder: Path, model: PreTrainedModel, name: str) -> Adapter:
    """Read a folder for a model that is opened by this name.

    Raises:
        InputError: no such folder, a method that is not supported, a pickle, or a base that is not this model.
    """
    config, method = check_settings(folder)
    ours = Base.of(model, name)
    _check_base(folder, config, ours)
    tensors = _tensors(folder)
    if method == "LORA":
        _check_factors(folder, config, tensors, model)
    else:
        _check_vectors(folder, config, tensors, model, method, ours)
    return Adapter(method, {key: tensor.to(model.device) for key, tensor in tensors.items()}, folder)


def check_settings(folder: Path) -> tuple[dict[str, Any], str]:
    """What a folder's small file says, and its method; its tensors are unread, so that planning can ask.

    Raises:
        InputError: no such folder, a method that is not supported, or a setting that changes more than is read.
    """
    config = _json(folder / CONFIG)
    method = str(config.get("peft_type"))
    if method not in METHODS:
        raise InputError(f"adapter '{folder}': its method is {method}; those that are read are {', '.join(METHODS)}")
    if method != "LORA":
        return config, method
    start = config.get("init_lora_weights", True)
    if start not in STARTS:
        raise InputError(
            f"adapter '{folder}': it starts by {start}, which rewrites the weights of the model under it: save it "
            "as plain LoRA (peft: save_pretrained(..., path_initial_model_for_weight_conversion=...))"
        )
    chosen = {key for key, value in config.items() if value not in (None, False, "none", {}, [])}
    if extra := sorted(chosen - LORA_SETTINGS):
        raise InputError(f"adapter '{folder}': {extra[0]} is more than LoRA's two factors, which alone are read")
    return config, method


def _json(path: Path) -> dict[str, Any]:
    """A JSON file's object."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"adapter '{path.parent}': there is no {path.name}, so it is no folder of peft's") from None
    except (OSError, ValueError, RecursionError):
        raise InputError(f"adapter '{path.parent}': {path.name} is not readable JSON") from None
    if not isinstance(stored, dict):
        raise InputError(f"adapter '{path.parent}': {path.name} does not hold keys and values")
    return stored


def _tensors(folder: Path) -> dict[str, Tensor]:
    """The weights, safetensors alone, each number finite."""
    path = folder / WEIGHTS
    if not path.is_file():
        pickle = ", only a pickle, which is never opened" if (folder / "adapter_model.bin").is_file() else ""
        raise InputError(f"adapter '{folder}': there is no {WEIGHTS}{pickle}: save it with safetensors")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError):
        raise InputError(f"adapter '{folder}': {WEIGHTS} is damaged or no safetensors file") from None
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise InputError(f"adapter '{folder}': {broken[0]} holds numbers that are not finite: its tuning diverged")
    return tensors


def _plain(name: str) -> str:
    """A model's name without its revision and the folders before it: `owner/model@main` is `model`."""
    return name.partition("@")[0].rstrip("/").rsplit("/", 1)[-1]


def _check_base(folder: Path, config: Mapping[str, Any], ours: Base) -> None:
    """Compare all that the folder says of its base with the model."""
    theirs = _json(folder / BASE) if (folder / BASE).is_file() else {}
    named = theirs.get("name") or config.get("base_model_name_or_path")
    told = {"name": _plain(str(named)) if named else None}
    told |= {key: theirs.get(key) for key in ("model_type", "width", "layers", "vocabulary")}
    for key, value in asdict(ours).items():
        if told[key] is not None and told[key] != value:
            said = {"name": "base", "model_type": "base's type", "layers": "base's depth"}.get(key, f"base's {key}")
            mend = "; if it is the same by another name, mend the folder's word for it" if key == "name" else ""
            raise InputError(
                f"adapter '{folder}': its {said} is {told[key]} and this model's is {value}: wrong base{mend}"
            )


def _check_vectors(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    model: PreTrainedModel,
    method: str,
    ours: Base,
) -> None:
    """A prompt or a prefix: one tensor, as wide as this model wants it, from a model as deep."""
    if set(tensors) != {STORED_NAME}:
        raise InputError(f"adapter '{folder}': {WEIGHTS} should hold {STORED_NAME} alone, not {', '.join(tensors)}")
    if config.get("num_transformer_submodules") not in (None, 1):
        raise InputError(f"adapter '{folder}': it is for an encoder with a decoder, and this model is a decoder alone")
    depth = config.get("num_layers")
    if depth is not None and depth != ours.layers:
        raise InputError(
            f"adapter '{folder}': its base's depth is {depth} and this model's is {ours.layers}: wrong base"
        )
    found = tensors[STORED_NAME]
    wanted = PrefixShape.of(model).per_slot if method == "PREFIX_TUNING" else ours.width
    if found.ndim != 2 or found.shape[1] != wanted:
        raise InputError(
            f"adapter '{folder}': its vectors have the shape {tuple(found.shape)} and this model wants "
            f"{wanted} numbers in each: wrong base"
        )
    if method == "PREFIX_TUNING":
        TunedPrefix(found.to(model.device), model)  # refuses one that leaves no place for content


def _check_factors(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: PreTrainedModel
) -> None:
    """LoRA: every factor beside a linear layer that this model has, of that layer's shape, and nothing else."""
    layers = family_of(model).linears_of(model)
    if not tensors:
        raise InputError(f"adapter '{folder}': {WEIGHTS} holds nothing")
    for name, tensor in tensors.items():
        found = FACTOR.fullmatch(name)
        if found is None:
            raise InputError(f"adapter '{folder}': {name} is not a factor of LoRA, which alone are read")
        layer, factor = found.groups()
        if layer not in layers:
            raise InputError(f"adapter '{folder}': this model has no linear layer {layer} in its blocks: wrong base")
        out, read = oriented_weight(model, layer).shape
        side, wanted = (tensor.shape[1], read) if factor == "A" else (tensor.shape[0], out)
        if side != wanted:
            raise InputError(
                f"adapter '{folder}': its {layer} is {side} wide where this model's is {wanted}: wrong base"
            )
