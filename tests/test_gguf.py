"""What a GGUF file says beside its weights: read and applied, or refused by name; nothing is dropped."""

import contextlib
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from data.errors import InputError
from probes.families import gguf_readings
from probes.gguf_config import gguf_configuration
from probes.gguf_files import read_gguf
from probes.gguf_keys import NEUTRAL_KEYS
from probes.models import look, open_model
from tests.gguf_making import ROWS, write_gguf
from tests.tiny_models import LAYERS, WIDTH, tiny

IDS = torch.tensor([[5, 9, 33, 7, 12, 40, 41, 8]])
TEXT, WHOLE, NUMBER, FLAG = (
    GGUFValueType.STRING,
    GGUFValueType.UINT32,
    GGUFValueType.FLOAT32,
    GGUFValueType.BOOL,
)
HEAD = 8
EPSILON = float(np.float32(1e-6))  # as a file holds it


def made(model_type="llama", **overrides):
    """A tiny model whose vocabulary is that of the files."""
    given = {} if model_type == "gpt2" else {"rms_norm_eps": EPSILON, "head_dim": HEAD}
    return tiny(model_type, vocab_size=ROWS, bos_token_id=0, eos_token_id=1, pad_token_id=2, **(given | overrides))


def opened(path):
    return open_model(str(path), dtype="float32", device="cpu")


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        look(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", gguf_readings())
def test_a_file_opens_as_the_model_that_it_was_made_from(model_type, tied, tmp_path):
    model = made(model_type, tie_word_embeddings=tied)
    found = opened(write_gguf(tmp_path / "one.gguf", model))
    assert torch.equal(logits(found.model), logits(model))
    for name in ("max_position_embeddings", "num_attention_heads", "bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(found.model.config, name) == getattr(model.config, name)
    assert found.model.config.tie_word_embeddings == tied


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_what_the_library_reads_of_a_file_is_read_alike(model_type, tmp_path):
    path = write_gguf(tmp_path / "one.gguf", made(model_type))
    ours = look(str(path)).config.to_dict()
    theirs = AutoConfig.from_pretrained(tmp_path, gguf_file=path.name).to_dict()
    odd = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    # The library takes its own default for a width that this file's tensors tell.
    assert odd <= {"_name_or_path", "head_dim"}


SCALINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": (
        {"rope.scaling.type": ("linear", TEXT), "rope.scaling.factor": (4.0, NUMBER)},
        {"rope_type": "linear", "factor": 4.0},
    ),
    "a factor without a type": ({"rope.scaling.factor": (4.0, NUMBER)}, {"rope_type": "linear", "factor": 4.0}),
    "an old key": ({"rope.scale_linear": (2.0, NUMBER)}, {"rope_type": "linear", "factor": 2.0}),
    "yarn": (
        {
            "rope.scaling.type": ("yarn", TEXT),
            "rope.scaling.factor": (4.0, NUMBER),
            "rope.scaling.original_context_length": (16, WHOLE),
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    ),
    "yarn of other bounds": (
        {
            "rope.scaling.type": ("yarn", TEXT),
            "rope.scaling.factor": (2.0, NUMBER),
            "rope.scaling.original_context_length": (32, WHOLE),
            "rope.scaling.yarn_beta_fast": (4.0, NUMBER),
            "rope.scaling.yarn_beta_slow": (0.5, NUMBER),
        },
        {
            "rope_type": "yarn",
            "factor": 2.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 4.0,
            "beta_slow": 0.5,
        },
    ),
    "none": ({"rope.scaling.type": ("none", TEXT), "rope.scaling.factor": (4.0, NUMBER)}, {"rope_type": "default"}),
    "another base": ({"rope.freq_base": (500.0, NUMBER)}, {"rope_theta": 500.0, "rope_type": "default"}),
}


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_rotary_scaling_is_read_and_applied(scaling, model_type, tmp_path):
    keys, right = SCALINGS[scaling]
    plain = made(model_type)
    scaled = made(model_type, rope_parameters={"rope_theta": 10000.0} | right)
    scaled.load_state_dict(plain.state_dict())
    named = {f"{model_type}.{name}": value for name, value in keys.items()}
    found = opened(write_gguf(tmp_path / "one.gguf", plain, keys=named))
    assert torch.equal(logits(found.model), logits(scaled))
    if scaling != "none":
        assert not torch.allclose(logits(found.model), logits(plain), atol=1e-3)
    said = [sentence for sentence in found.read_beside if sentence.startswith("rotary scaling")]
    assert len(said) == ("rope.freq_base" not in keys and scaling != "none")


def llama3_factors(base: float, width: int, factor: float, original: int) -> np.ndarray:
    """Llama 3's factors, as llama.cpp's converter writes them."""
    found = []
    for frequency in 1.0 / base ** (np.arange(0, width, 2, dtype=np.float32) / width):
        wavelength = 2 * math.pi / frequency
        if wavelength < original / 4:
            found.append(1.0)
        elif wavelength > original:
            found.append(factor)
        else:
            smooth = (original / wavelength - 1) / 3
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, dtype=np.float32)


def test_the_tensor_of_llama_3s_scaling_is_read_and_applied(tmp_path):
    factors = llama3_factors(10000.0, HEAD, 8.0, 128)
    assert len(set(factors)) > 1
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    plain = made()
    right = made(
        rope_parameters={"rope_theta": 10000.0, "original_max_position_embeddings": 128} | scaling,
        max_position_embeddings=256,
    )
    right.load_state_dict(plain.state_dict())
    keys = {"llama.context_length": (256, WHOLE)}
    found = opened(write_gguf(tmp_path / "one.gguf", plain, keys=keys, tensors={"rope_freqs.weight": factors}))
    torch.testing.assert_close(logits(found.model), logits(right), rtol=0, atol=1e-5)
    assert not torch.allclose(logits(found.model), logits(plain), atol=1e-3)
    assert any("llama3" in sentence for sentence in found.read_beside)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from([10000.0, 500000.0]),
    width=st.sampled_from([8, 64, 128]),
    factor=st.sampled_from([2.0, 8.0, 16.0, 32.0]),
    power=st.integers(6, 14),
)
def test_whatever_llama_3s_scaling_was_the_same_frequencies_come_out(base, width, factor, power, tmp_path):
    model = tiny("llama", vocab_size=ROWS, head_dim=width, num_attention_heads=1, num_key_value_heads=1)
    factors = llama3_factors(base, width, factor, 2**power)
    keys = {"llama.rope.freq_base": (base, NUMBER)}
    path = write_gguf(tmp_path / "one.gguf", model, keys=keys, tensors={"rope_freqs.weight": factors})
    config, _ = gguf_configuration(read_gguf(path))
    plain = 1.0 / base ** (np.arange(0, width, 2) / width)
    kind = config.rope_parameters["rope_type"]
    made_of = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))[0].numpy() if kind != "default" else plain
    np.testing.assert_allclose(made_of, plain / factors, rtol=2e-5)


def test_rotary_factors_that_no_configuration_expresses_are_refused(tmp_path):
    factors = np.array([1, 2, 3, 4], dtype=np.float32)
    path = write_gguf(tmp_path / "one.gguf", made(), tensors={"rope_freqs.weight": factors})
    assert "rope_freqs.weight" in refusal(path)
    linear = {"llama.rope.scaling.factor": (4.0, NUMBER)}
    both = llama3_factors(10000.0, HEAD, 8.0, 128)
    path = write_gguf(tmp_path / "two.gguf", made(), keys=linear, tensors={"rope_freqs.weight": both})
    assert "rope_freqs.weight" in refusal(path)


CHANGING = {
    "attention.causal": (False, FLAG),
    "attention.clamp_kqv": (8.0, NUMBER),
    "attention.key_length": (16, WHOLE),
    "attention.layer_norm_epsilon": (1e-3, NUMBER),
    "attention.max_alibi_bias": (8.0, NUMBER),
    "attention.scale": (0.5, NUMBER),
    "attention.sliding_window": (16, WHOLE),
    "attention.value_length": (16, WHOLE),
    "attn_logit_softcapping": (50.0, NUMBER),
    "embedding_scale": (12.0, NUMBER),
    "expert_count": (8, WHOLE),
    "final_logit_softcapping": (30.0, NUMBER),
    "logit_scale": (0.25, NUMBER),
    "residual_scale": (0.5, NUMBER),
    "rope.dimension_count": (4, WHOLE),
    "rope.scaling.alpha": (2.0, NUMBER),
    "rope.scaling.attn_factor": (1.5, NUMBER),
    "rope.scaling.type": ("longrope", TEXT),
    "rope.scaling.yarn_log_multiplier": (0.1, NUMBER),
    "vocab_size": (ROWS + 1, WHOLE),
    "palimpsest.unheard_of": (3, WHOLE),
}


@pytest.mark.parametrize("key", CHANGING)
def test_a_key_that_changes_numbers_and_is_not_read_is_refused_by_name(key, tmp_path):
    path = write_gguf(tmp_path / "one.gguf", made(), keys={f"llama.{key}": CHANGING[key]})
    assert f"llama.{key} " in refusal(path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.from_regex(r"[a-z_]{1,12}(\.[a-z_]{1,12})?", fullmatch=True), value=st.integers(0, 9))
def test_no_key_of_the_architecture_is_dropped(name, value, tmp_path):
    path = write_gguf(tmp_path / "one.gguf", made(), keys={f"llama.zz_{name}": (value, WHOLE)})
    assert f"llama.zz_{name} " in refusal(path)


def test_keys_at_their_neutral_values_are_no_reason_to_refuse(tmp_path):
    kinds = {bool: FLAG, int: WHOLE, float: NUMBER, str: TEXT}
    keys = {f"llama.{name}": (values[0], kinds[type(values[0])]) for name, values in NEUTRAL_KEYS.items()}
    keys |= {
        "llama.attention.scale": (HEAD**-0.5, NUMBER),
        "llama.attention.sliding_window": (64, WHOLE),
        "llama.attention.key_length": (HEAD, WHOLE),
        "llama.rope.dimension_count": (HEAD, WHOLE),
        "llama.rope.scaling.finetuned": (True, FLAG),
        "llama.vocab_size": (ROWS, WHOLE),
        "general.author": ("ada", TEXT),
        "quantize.imatrix.file": ("some.dat", TEXT),
    }
    model = made()
    found = opened(write_gguf(tmp_path / "one.gguf", model, keys=keys))
    assert torch.equal(logits(found.model), logits(model))


@pytest.mark.parametrize("key", ["context_length", "attention.layer_norm_rms_epsilon", "attention.head_count"])
def test_a_key_without_which_the_library_takes_its_own_default_is_asked_for(key, tmp_path):
    path = write_gguf(tmp_path / "one.gguf", made(), without=(f"llama.{key}",))
    assert f"llama.{key} is not in the file" in refusal(path)


def test_absent_keys_mean_what_the_writers_of_such_files_mean(tmp_path):
    model = made("qwen2", num_key_value_heads=4)
    without = ("qwen2.attention.head_count_kv", "qwen2.rope.freq_base")
    found = opened(write_gguf(tmp_path / "one.gguf", model, without=without))
    assert torch.equal(logits(found.model), logits(model))


def test_biases_that_the_keys_do_not_name_are_read(tmp_path):
    model = made(attention_bias=True, mlp_bias=True)
    found = opened(write_gguf(tmp_path / "one.gguf", model))
    assert torch.equal(logits(found.model), logits(model))
    assert any("attention_bias" in sentence for sentence in found.read_beside)


@pytest.mark.parametrize(
    ("tensors", "without", "named"),
    [
        ({"blk.0.attn_q.bias": np.ones(WIDTH, np.float32)}, (), "blk.0.attn_q.bias has no place"),
        ({f"blk.{LAYERS}.attn_norm.weight": np.ones(WIDTH, np.float32)}, (), f"blk.{LAYERS}.attn_norm.weight has no"),
        ({"blk.0.attn_q_norm.weight": np.ones(HEAD, np.float32)}, (), "blk.0.attn_q_norm.weight has no place"),
        ({}, ("blk.1.ffn_up.weight",), "blk.1.ffn_up.weight"),
        ({"output_norm.weight": np.ones(WIDTH + 1, np.float32)}, (), "output_norm.weight is (33,)"),
    ],
)
def test_a_tensor_without_a_place_or_missing_is_refused_by_name(tensors, without, named, tmp_path):
    path = write_gguf(tmp_path / "one.gguf", made(), tensors=tensors, without=without)
    assert named in refusal(path)


def test_what_is_no_whole_model_is_refused(tmp_path):
    path = write_gguf(tmp_path / "part.gguf", made(), keys={"split.count": (3, WHOLE)})
    assert "one of 3 parts" in refusal(path)
    path = write_gguf(tmp_path / "adapter.gguf", made(), keys={"general.type": ("adapter", TEXT)})
    assert "holds no model but 'adapter'" in refusal(path)
    whole = write_gguf(tmp_path / "whole.gguf", made()).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-500])
    assert "cut short or damaged" in refusal(tmp_path / "cut.gguf")


def test_an_architecture_that_is_not_read_is_refused_from_the_header(tmp_path):
    path = write_gguf(tmp_path / "one.gguf", made())
    (tmp_path / "two.gguf").write_bytes(path.read_bytes().replace(b"llama", b"bloom", 1))
    assert re.search(
        r"architecture 'bloom' are not supported; open one of llama, qwen2, gpt2", refusal(tmp_path / "two.gguf")
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), value=st.integers(0, 255), end=st.floats(0, 1))
def test_a_damaged_header_is_one_line_or_a_model(place, value, end, tmp_path):
    whole = bytearray(write_gguf(tmp_path / "one.gguf", made(), tokenizer={}).read_bytes())
    whole[int(place * 2000)] = value
    (tmp_path / "two.gguf").write_bytes(whole[: int(end * 2 * len(whole))])
    with contextlib.suppress(InputError):  # any other error fails the test
        look(str(tmp_path / "two.gguf"))


def test_llama_configurations_hold_the_default_that_is_counted_on():
    told: Any = LlamaConfig().rope_parameters
    assert told["rope_theta"] == 10000.0
