"""peft's folders: what peft wrote we read, what we wrote peft reads, to the same logits; a wrong base is refused."""

import json
import re
from functools import partial

import pytest
import torch
from peft import (
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file

from data.errors import InputError
from probes.adapter_folders import BASE, CONFIG, METHODS, WEIGHTS, read_adapter, write_lora, write_prefix, write_prompt
from probes.families import family_of
from probes.lora import adapted, add_lora, targeted_layers
from probes.prefix_tuning import PrefixShape, TunedPrefix
from probes.sharing import share_weights
from probes.variants import Variant
from tests.tiny_models import WIDTH, tiny

ROWS = [[5, 9, 33, 7, 12], [40, 7], [8, 8, 21]]
LENGTH = 3
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-5)


def pefts_logits(peft_model):
    with torch.no_grad():
        return torch.cat(
            [
                peft_model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits[:, -1]
                for row in ROWS
            ]
        )


def opened(folder, model):
    """The variant that a folder makes of a model."""
    found = read_adapter(folder, model, "tiny")
    if found.method == "LORA":
        return Variant("adapter", adapted(found.lora(model)), None)  # type: ignore[arg-type]
    prefix = None if found.prefix is None else TunedPrefix(found.prefix, model)
    return Variant("adapter", model, None, prompt=found.prompt, prefix=prefix)  # type: ignore[arg-type]


def logits(variant):
    return torch.cat([variant.logits([row]) for row in ROWS])


def made_by_peft(model, method):
    """An adapter of peft's, away from its start."""
    family = family_of(model)
    config = {
        "PROMPT_TUNING": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH),
        "P_TUNING": PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, encoder_hidden_size=8),
        "PREFIX_TUNING": PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, prefix_projection=True, encoder_hidden_size=8
        ),
        "LORA": LoraConfig(
            task_type="CAUSAL_LM",
            r=2,
            lora_alpha=3,
            target_modules=targeted_layers(model, "attention"),
            fan_in_fan_out=family.conv1d,
        ),
    }[method]
    torch.manual_seed(0)
    theirs = get_peft_model(share_weights(model), config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name or "prompt_encoder" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return theirs


def written_by_us(folder, model, method):
    """A folder of ours, and the variant that was written."""
    generator = torch.Generator().manual_seed(1)
    if method == "LORA":
        lora = add_lora(model, rank=2, targets="all", seed=0)
        with torch.no_grad():
            for name, one in lora.named_parameters():
                if "lora_B" in name:
                    one.add_(0.1)
        write_lora(folder, lora, model, "somewhere/tiny")
        return Variant("ours", adapted(lora), None)  # type: ignore[arg-type]
    if method == "PREFIX_TUNING":
        flat = torch.randn(LENGTH, PrefixShape.of(model).per_slot, generator=generator)
        write_prefix(folder, flat, model, "somewhere/tiny")
        return Variant("ours", model, None, prefix=TunedPrefix(flat, model))  # type: ignore[arg-type]
    prompt = torch.randn(LENGTH, WIDTH, generator=generator)
    write_prompt(folder, prompt, model, "somewhere/tiny@main", method)
    return Variant("ours", model, None, prompt=prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_what_peft_wrote_is_read_to_pefts_logits(model, method, tmp_path):
    theirs = made_by_peft(model, method)
    theirs.save_pretrained(str(tmp_path))
    assert_equal(logits(opened(tmp_path, model)), pefts_logits(theirs))


@pytest.mark.parametrize("method", METHODS)
def test_what_we_wrote_peft_reads_to_our_logits(model, method, tmp_path):
    ours = written_by_us(tmp_path, model, method)
    theirs = PeftModel.from_pretrained(share_weights(model), str(tmp_path)).eval()
    assert_equal(pefts_logits(theirs), logits(ours))
    assert_equal(logits(opened(tmp_path, model)), logits(ours))


def refused(folder, model, name="tiny"):
    with pytest.raises(InputError) as told:
        read_adapter(folder, model, name)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 2 * WIDTH}, "width is 32 and this model's is 64"),
        ({"num_hidden_layers": 3}, "depth is 2 and this model's is 3"),
        ({"vocab_size": 65}, "vocabulary is 64 and this model's is 65"),
    ],
)
def test_a_folder_of_ours_is_refused_by_another_base(method, change, said, tmp_path):
    written_by_us(tmp_path, tiny("llama"), method)
    assert said in refused(tmp_path, tiny("llama", **change))


@pytest.mark.parametrize("method", METHODS)
def test_another_type_or_name_is_refused(method, tmp_path):
    written_by_us(tmp_path, tiny("llama"), method)
    assert "type is llama and this model's is qwen2" in refused(tmp_path, tiny("qwen2"))
    assert "its base is tiny and this model's is other" in refused(tmp_path, tiny("llama"), "owner/other")
    read_adapter(tmp_path, tiny("llama"), "elsewhere/tiny@v2")


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_of_pefts_is_refused_by_a_base_of_another_width(method, tmp_path):
    made_by_peft(tiny("llama"), method).save_pretrained(str(tmp_path))
    assert "wrong base" in refused(tmp_path, tiny("llama", hidden_size=2 * WIDTH))


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_of_pefts_is_refused_by_a_shallower_base(method, tmp_path):
    made_by_peft(tiny("llama"), method).save_pretrained(str(tmp_path))
    assert "wrong base" in refused(tmp_path, tiny("llama", num_hidden_layers=1))


def test_what_is_no_such_folder_is_refused(tmp_path):
    model = tiny("llama")
    assert "no adapter_config.json" in refused(tmp_path, model)
    (tmp_path / CONFIG).write_text("{")
    assert "not readable JSON" in refused(tmp_path, model)
    (tmp_path / CONFIG).write_text("[]")
    assert "keys and values" in refused(tmp_path, model)
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "VERA"}))
    assert re.search("its method is VERA; those that are read are PROMPT_TUNING", refused(tmp_path, model))


def test_a_pickle_a_damaged_file_and_numbers_that_are_none_are_refused(tmp_path):
    model = tiny("llama")
    written_by_us(tmp_path, model, "PROMPT_TUNING")
    good = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(good[:-5])
    assert "damaged" in refused(tmp_path, model)
    save_file({"prompt_embeddings": torch.full((2, WIDTH), float("nan"))}, tmp_path / WEIGHTS)
    assert "prompt_embeddings holds numbers that are not finite" in refused(tmp_path, model)
    save_file({"other": torch.zeros(2, WIDTH)}, tmp_path / WEIGHTS)
    assert "should hold prompt_embeddings alone, not other" in refused(tmp_path, model)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    assert "only a pickle, which is never opened" in refused(tmp_path, model)


def test_more_than_two_factors_is_refused(tmp_path):
    model = tiny("llama")
    written_by_us(tmp_path, model, "LORA")
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors | {"base_model.model.lm_head.weight": torch.zeros(2)}, tmp_path / WEIGHTS)
    assert "lm_head.weight is not a factor of LoRA" in refused(tmp_path, model)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"use_dora": True}))
    assert "use_dora is more than" in refused(tmp_path, model)
    assert (tmp_path / BASE).is_file()
