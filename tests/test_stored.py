"""What a folder's weights hold and its configuration has no place for: refused by name, before a weight is read."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from data.errors import InputError
from probes import models
from probes.models import look, open_model
from tests.tiny_models import LAYERS, TINY_TYPES, WIDTH, tiny

IDS = torch.tensor([[5, 9, 33, 7, 12]])
WEIGHTS = "model.safetensors"


def save(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def changed(folder, *, config=None, tensors=None, without=()):
    """The folder, with other words in its configuration and other tensors in its weights."""
    if config is not None:
        stored = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(stored | config))
    held = {name: one for name, one in load_file(folder / WEIGHTS).items() if name not in without}
    save_file(held | (tensors or {}), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def refusal(folder, monkeypatch) -> str:
    """The sentence that stops both looking and opening, before the library reads a weight."""
    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("was read"))
    sentences = []
    for attempt in (look, lambda name: open_model(name, dtype="float32", device="cpu")):
        with pytest.raises(InputError) as caught:
            attempt(str(folder))
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert "\n" not in sentences[0]
    return sentences[0]


def opened(folder):
    return open_model(str(folder), dtype="float32", device="cpu")


def test_biases_that_the_configuration_leaves_out_are_refused(tmp_path, tokenizer, monkeypatch):
    save(tmp_path, tiny("llama", attention_bias=True), tokenizer)
    changed(tmp_path, config={"attention_bias": False})
    assert "8 tensors that its configuration has no place for (model.layers.0.self_attn.k_proj.bias)" in refusal(
        tmp_path, monkeypatch
    )


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_layers_that_the_configuration_leaves_out_are_refused(model_type, tmp_path, tokenizer, monkeypatch):
    save(tmp_path, tiny(model_type), tokenizer)
    field = "n_layer" if model_type == "gpt2" else "num_hidden_layers"
    layers = {"layer_types": ["full_attention"]} if model_type == "qwen2" else {}
    changed(tmp_path, config={field: LAYERS - 1} | layers)
    assert "tensors that its configuration has no place for" in refusal(tmp_path, monkeypatch)


@pytest.mark.parametrize("model_type", TINY_TYPES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_tensor_is_dropped_and_none_is_drawn(model_type, data, tmp_path, tokenizer):
    """Any tensor of any family, under a name that its model does not have: both its names are told."""
    folder = tmp_path / data.draw(st.uuids()).hex
    save(folder, tiny(model_type), tokenizer)
    name = data.draw(st.sampled_from(sorted(load_file(folder / WEIGHTS))))
    moved = f"{name}_{data.draw(st.sampled_from('abc'))}"
    held = load_file(folder / WEIGHTS)
    save_file({moved if one == name else one: tensor for one, tensor in held.items()}, folder / WEIGHTS)
    with pytest.raises(InputError, match=f"1 tensors that its configuration has no place for .*{moved[-10:]}"):
        look(str(folder))
    changed(folder, without=(moved,))
    with pytest.raises(InputError, match=r"its weights lack [12] tensors"):
        look(str(folder))


def test_a_tensor_of_another_shape_is_refused_with_both(tmp_path, tokenizer, monkeypatch):
    save(tmp_path, tiny("llama"), tokenizer)
    changed(tmp_path, config={"intermediate_size": 48})
    assert "is (32, 64) and its configuration makes (32, 48)" in refusal(tmp_path, monkeypatch)


def test_a_head_of_its_own_under_a_configuration_that_ties_it_is_refused(tmp_path, tokenizer):
    model = tiny("llama", tie_word_embeddings=False)
    save(tmp_path, model, tokenizer)
    changed(tmp_path, config={"tie_word_embeddings": True})
    with pytest.raises(InputError, match="its weights hold a head of its own: set tie_word_embeddings to false"):
        opened(tmp_path)


def test_a_tied_head_that_is_stored_once_more_is_read(tmp_path, tokenizer):
    model = tiny("llama", tie_word_embeddings=True)
    save(tmp_path, model, tokenizer)
    embedding = load_file(tmp_path / WEIGHTS)["model.embed_tokens.weight"]
    changed(tmp_path, tensors={"lm_head.weight": embedding.clone()})
    assert torch.equal(opened(tmp_path).model(IDS).logits, model(IDS).logits)


def inv_freq(model):
    return next(one for name, one in model.named_buffers() if name.endswith("rotary_emb.inv_freq"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "gpt_neox"])
def test_rotary_tables_of_old_files_are_held_against_the_models_own(
    model_type, dtype, tmp_path, tokenizer, monkeypatch
):
    model = tiny(model_type)
    save(tmp_path, model, tokenizer)
    module = "model.layers.{}.self_attn" if model_type == "llama" else "gpt_neox.layers.{}.attention"
    names = [f"{module.format(layer)}.rotary_emb.inv_freq" for layer in range(LAYERS)]
    own = inv_freq(model).to(dtype)
    changed(tmp_path, tensors={name: own.clone() for name in names})
    found = opened(tmp_path)
    assert torch.equal(found.model(IDS).logits, model(IDS).logits)
    assert f"{LAYERS} rotary tables stored by an older library, equal to the model's own" in found.read_beside
    changed(tmp_path, tensors={names[-1]: own / 4})
    assert names[-1] in refusal(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("model_type", "part"), [("gpt2", "transformer.h.{}.attn"), ("gpt_neox", "gpt_neox.layers.{}.attention")]
)
def test_masks_of_old_files_are_held_against_what_a_mask_is(model_type, part, tmp_path, tokenizer, monkeypatch):
    model = tiny(model_type)
    save(tmp_path, model, tokenizer)
    mask = torch.ones(64, 64, dtype=torch.uint8).tril().view(1, 1, 64, 64)
    tensors = {f"{part.format(layer)}.bias": mask.clone() for layer in range(LAYERS)}
    tensors |= {f"{part.format(layer)}.masked_bias": torch.tensor(-1e4) for layer in range(LAYERS)}
    changed(tmp_path, tensors=tensors)
    found = opened(tmp_path)
    assert torch.equal(found.model(IDS).logits, model(IDS).logits)
    assert f"{2 * LAYERS} causal masks stored by an older library, which the model makes itself" in found.read_beside
    changed(tmp_path, tensors={f"{part.format(0)}.bias": torch.ones_like(mask)})
    assert f"{part.format(0)}.bias" in refusal(tmp_path, monkeypatch)


def test_weights_saved_without_the_models_prefix_are_read(tmp_path, tokenizer):
    model = tiny("gpt2")
    save(tmp_path, model, tokenizer)
    held = load_file(tmp_path / WEIGHTS)
    bare = {name.removeprefix("transformer."): one for name, one in held.items()}
    save_file(bare, tmp_path / WEIGHTS, metadata={"format": "pt"})
    assert torch.equal(opened(tmp_path).model(IDS).logits, model(IDS).logits)
    save_file(bare | {"transformer.wte.weight": torch.zeros_like(bare["wte.weight"])}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=r"are both its transformer\.wte\.weight"):
        look(str(tmp_path))


def test_parts_and_their_index_are_read_together_or_not_at_all(tmp_path, tokenizer, monkeypatch):
    model = tiny("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 1
    assert torch.equal(opened(tmp_path).model(IDS).logits, model(IDS).logits)
    kept = parts[0].read_bytes()
    parts[0].unlink()
    assert f"names {parts[0].name}, which is not there" in refusal(tmp_path, monkeypatch)
    parts[0].write_bytes(kept)
    save_file({"lm_head.weight": torch.zeros(2, 2)}, tmp_path / WEIGHTS)
    assert "which of them is the model is unknown" in refusal(tmp_path, monkeypatch)


def test_weights_of_which_none_is_the_model_are_refused(tmp_path, tokenizer, monkeypatch):
    save(tmp_path, tiny("llama"), tokenizer)
    (tmp_path / WEIGHTS).rename(tmp_path / "consolidated.safetensors")
    assert "neither model.safetensors nor model.safetensors.index.json is there" in refusal(tmp_path, monkeypatch)


def test_an_adapter_in_the_models_folder_is_not_put_on_it_unasked(tmp_path, tokenizer, monkeypatch):
    model = tiny("llama")
    save(tmp_path, model, tokenizer)
    get_peft_model(tiny("llama"), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(
        tmp_path
    )
    assert "adapter_config.json" in refusal(tmp_path, monkeypatch)


def test_code_of_a_models_own_is_named_where_it_is_not_run(tmp_path, tokenizer):
    save(tmp_path, tiny("llama"), tokenizer)
    changed(tmp_path, config={"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnLlama"}})
    assert opened(tmp_path).read_beside == (
        "its own code (AutoModelForCausalLM) is not run: it is read as a llama model",
    )


def test_weights_read_less_exactly_than_they_are_stored_are_named(tmp_path, tokenizer):
    save(tmp_path, tiny("llama"), tokenizer)
    count = len(load_file(tmp_path / WEIGHTS))
    narrow = open_model(str(tmp_path), dtype="bfloat16", device="cpu")
    assert narrow.read_beside == (f"{count} tensors are stored in float32 and were read in bfloat16",)
    assert opened(tmp_path).read_beside == ()
    assert opened(tmp_path).model.config.hidden_size == WIDTH
