"""The configuration that a GGUF file describes: every key is read, known to change no number, or refused by name.

The library's own reader maps a dozen keys of each architecture and drops the rest without a word, rotary scaling
among them. Here what is not known is refused, since a file that says something says it because it matters.
"""

from collections.abc import Set

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, dequantize, get_tensor_name_map
from gguf.constants import GGML_QUANT_SIZES
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from data.errors import InputError
from probes.families import family_of, gguf_readings
from probes.gguf_files import GgufFile
from probes.gguf_keys import ANOTHER, Keys
from probes.gguf_tokenizers import special_ids


def gguf_configuration(file: GgufFile) -> tuple[PretrainedConfig, tuple[str, ...]]:
    """The configuration that a file describes, and what of it was read beside the weights, as sentences.

    Raises:
        InputError: an architecture, a key or a tensor that cannot be read, named.
    """
    readings = gguf_readings()
    if file.architecture not in readings:
        raise InputError(
            f"model '{file.path}': GGUF files of architecture {file.architecture!r} are not supported; open one of "
            f"{', '.join(readings)}, or the model as safetensors"
        )
    keys = Keys(file)
    shape = readings[file.architecture].shape(keys)
    keys.finish()
    special = {f"{name}_id": place for name, place in special_ids(file).items() if name != "unk_token"}
    config = AutoConfig.for_model(file.architecture, **shape, **special)
    _check_tensors(file, config, keys.read)
    return config, tuple(keys.told)


def _check_tensors(file: GgufFile, config: PretrainedConfig, read: Set[str]) -> None:
    """Refuse a file that holds more, less or other tensors than the model has and were `read`, before any weight is."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    places = get_tensor_name_map(_enumerated(file.architecture), config.num_hidden_layers)
    wanted = {places.get_name(name, (".weight", ".bias")): tuple(one.shape) for name, one in model.state_dict().items()}
    if config.tie_word_embeddings:
        wanted.pop("output.weight", None)
    if more := sorted(set(file.tensors) - set(wanted) - read):
        raise InputError(
            f"model '{file.path}': its tensor {more[0]} has no place in a {file.architecture} model "
            f"({len(more)} such tensors): {ANOTHER}"
        )
    if lacking := sorted(str(name) for name in set(wanted) - set(file.tensors)):
        raise InputError(f"model '{file.path}': its weights lack {len(lacking)} tensors ({lacking[0]}): {ANOTHER}")
    mirrored = family_of(model).conv1d
    for name, shape in wanted.items():
        found = file.tensors[str(name)]
        # Of a shape and its mirror: a Conv1D keeps its weight the other way round.
        if found.shape != shape and not (mirrored and found.shape == shape[::-1]):
            raise InputError(
                f"model '{file.path}': its tensor {name} is {found.shape} and its keys describe {shape}: {ANOTHER}"
            )
    _check_kinds(file)


def _check_kinds(file: GgufFile) -> None:
    """Refuse a way of storing numbers that cannot be made dense again."""
    for kind in sorted({one.kind for one in file.tensors.values()}):
        size = GGML_QUANT_SIZES[kind][1]
        try:
            dequantize(torch.zeros(1, size, dtype=torch.uint8).numpy(), kind)
        except NotImplementedError:
            raise InputError(
                f"model '{file.path}': its weights are stored as {kind.name}, which cannot be made "
                f"dense again here: {ANOTHER}"
            ) from None


def _enumerated(architecture: str) -> MODEL_ARCH:
    return next(one for one, name in MODEL_ARCH_NAMES.items() if name == architecture)
