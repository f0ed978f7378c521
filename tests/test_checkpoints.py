"""Ready quantised checkpoints: opened as what their file holds, or refused by a true sentence before that is read."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data.errors import InputError
from probes import checkpoints, models
from probes.bake import quiet
from probes.families import family_of
from probes.models import look, open_model
from tests.tiny_models import tiny

IDS = torch.tensor([[5, 9, 33, 7, 12]])
WEIGHTS = "model.safetensors"
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def quantised(folder: Path, tokenizer, scheme: str) -> Path:
    """A tiny model as llm-compressor saves it in one of its preset schemes."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    model = tiny("llama", hidden_size=128, intermediate_size=256)
    model.config.save_pretrained(folder / "shape")
    model.config.name_or_path = str(folder / "shape")
    with quiet():
        oneshot(
            model=model,
            tokenizer=tokenizer,
            recipe=QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"]),
        )
        model.save_pretrained(folder / scheme, save_compressed=True)
        tokenizer.save_pretrained(folder / scheme)
    return folder / scheme


def by_hand(folder: Path, name: str, scheme: str) -> np.ndarray:
    """One layer's weight from the bytes of its file, by the published definition of the format."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        held = {key.removeprefix(f"{name}."): file.get_tensor(key) for key in file.keys() if key.startswith(f"{name}.")}  # noqa: SIM118
    if scheme == "MXFP8A16":
        values = held["weight"].float().numpy()
    else:
        packed = held["weight_packed"].numpy()
        values = FP4[np.stack([packed & 15, packed >> 4], axis=-1).reshape(packed.shape[0], -1)]
    if scheme == "NVFP4A16":
        scale = held["weight_scale"].float().numpy() / held["weight_global_scale"].numpy()
        return values * scale.repeat(16, axis=1)
    scale = 2.0 ** (held["weight_scale"].numpy().astype(np.float64) - 127)
    return values * scale.repeat(32, axis=1)


@pytest.mark.parametrize("scheme", ["NVFP4A16", "MXFP4A16", "MXFP8A16"])
def test_weights_of_few_bit_floats_open_in_every_dtype_as_their_file_holds_them(scheme, tmp_path, tokenizer):
    folder = quantised(tmp_path, tokenizer, scheme)
    for dtype in models.DTYPES:
        opened = open_model(str(folder), dtype=dtype, device="cpu")
        assert {one.dtype for one in opened.model.parameters()} == {models.DTYPES[dtype]}
        for name in family_of(opened.model).linears_of(opened.model):
            right = by_hand(folder, name, scheme)
            # The library makes them dense in bfloat16; those of MX are exact there.
            np.testing.assert_allclose(
                opened.model.get_parameter(f"{name}.weight").float().numpy(),
                right,
                rtol=2**-8 if scheme == "NVFP4A16" else 0,
                atol=1e-6 if dtype == "float16" else 0,
            )
        assert torch.isfinite(opened.model(IDS).logits).all()


def folder_saying(folder: Path, tokenizer, told: dict) -> Path:
    """A folder whose configuration says this of its quantisation."""
    tiny("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": told}))
    return folder


def refusal(folder, monkeypatch) -> str:
    """The sentence that stops both looking and opening, before the library reads a weight."""
    for module in (models, checkpoints):
        monkeypatch.setattr(module.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("was read"))
    sentences = []
    for attempt in (look, lambda name: open_model(name, dtype="float32", device="cpu")):
        with pytest.raises(InputError) as caught:
            attempt(str(folder))
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert "\n" not in sentences[0]
    return sentences[0]


@pytest.mark.parametrize(
    "method",
    ["aqlm", "auto-round", "awq", "bitnet", "bitsandbytes", "fp8", "gptq", "hqq", "torchao", "unheard-of", None],
)
def test_a_method_that_is_not_opened_is_named_and_nothing_is_said_of_libraries(
    method, tmp_path, tokenizer, monkeypatch
):
    sentence = refusal(folder_saying(tmp_path, tokenizer, {"quant_method": method}), monkeypatch)
    assert f"is quantised with {method or 'an unnamed method'}, which is not opened here" in sentence
    assert "install" not in sentence


def test_of_a_library_only_the_one_that_is_missing_is_said_to_be(tmp_path, tokenizer, monkeypatch):
    folder = folder_saying(tmp_path, tokenizer, {"quant_method": "compressed-tensors", "format": "pack-quantized"})
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "compressed_tensors" else found(name, *rest)
    )
    assert "compressed-tensors, and that library is not installed: pip install" in refusal(folder, monkeypatch)


GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4}}


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"format": "marlin-24"}, "in the form marlin-24"),
        ({"format": "sparse-24-bitmask"}, "in the form sparse-24-bitmask"),
        ({"format": "dense", "sparsity_config": {"format": "sparse-24-bitmask"}}, "in the form"),
        ({"sparsity_config": {"format": "sparse-bitmask"}}, "in the form sparse-bitmask"),
        ({"config_groups": {"one": GROUP | {"format": "unheard-of"}}}, "in the form unheard-of"),
        ({"config_groups": {"one": GROUP | {"input_activations": {"num_bits": 8}}}}, "quantises activations"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "quantises activations or the cache"),
        ({"transform_config": {"config_groups": {"u": {}}}}, "turns its activations while it runs"),
    ],
)
def test_a_form_that_is_not_opened_is_named_before_a_weight_is_read(told, named, tmp_path, tokenizer, monkeypatch):
    scheme = {"quant_method": "compressed-tensors", "format": "pack-quantized"} | told
    assert named in refusal(folder_saying(tmp_path, tokenizer, scheme), monkeypatch)


@pytest.mark.parametrize("damage", ["more", "less", "deeper"])
def test_tensors_of_a_checkpoint_are_held_against_its_configuration(damage, tmp_path, tokenizer, monkeypatch):
    folder = quantised(tmp_path, tokenizer, "W8A16")
    held = load_file(folder / WEIGHTS)
    layer = "model.layers.1.mlp.up_proj"
    if damage == "more":
        held[f"{layer}.bias"] = torch.ones(256)
        named = f"no place for ({layer}.bias)"
    elif damage == "less":
        held = {name: one for name, one in held.items() if not name.startswith(layer)}
        named = f"lack 1 tensors ({layer}.weight)"
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
        named = "tensors that its configuration has no place for (model.layers.1."
    save_file(held, folder / WEIGHTS, metadata={"format": "pt"})
    assert named in refusal(folder, monkeypatch)
