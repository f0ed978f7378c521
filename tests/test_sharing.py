"""Nothing that is opened changes what it is put on: the parent's bits before and after, and what is done where not."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from analysis import opening, worker
from analysis.store import Store
from analysis.worker import Job
from data.errors import InputError
from probes.adapter_folders import folder_sha, read_adapter
from probes.lora import load_lora
from probes.models import locate
from probes.sharing import ChangedWeightsError, Guard, share_weights, unchanged
from probes.variants import Variant
from tests.tiny_models import tiny

ROWS = [[5, 6, 7, 8]]
REWRITING = ("olora", "pissa", "pissa_niter_2")


def bits(model):
    """Every number of a model as bytes, by numpy."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}


def folder_of(path, start=True, **settings):
    """A LoRA folder as peft itself leaves it, over a tiny model of its own; its factors are not those it began with."""
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=start)
    made = get_peft_model(tiny("llama"), config)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_" in name:
                weight.add_(0.1)
    made.save_pretrained(str(path), save_embedding_layers=False)
    stored = json.loads((path / "adapter_config.json").read_text())
    told = stored | {"base_model_name_or_path": "tiny"} | settings
    (path / "adapter_config.json").write_text(json.dumps(told))
    return path


@pytest.mark.parametrize("start", REWRITING)
def test_an_adapter_that_rewrites_its_base_is_refused_before_it_is_opened(start, tmp_path):
    folder, model = folder_of(tmp_path, start), tiny("llama")
    before = bits(model)
    for ask in (lambda: read_adapter(folder, model, "tiny"), lambda: folder_sha(folder)):  # the second: planning
        with pytest.raises(InputError, match=f"starts by {start}, which rewrites the weights"):
            ask()
    assert bits(model) == before


@pytest.mark.parametrize("start", REWRITING)
def test_what_peft_writes_into_shared_weights_is_found_even_past_the_settings(start, tmp_path):
    with pytest.raises(ChangedWeightsError, match=r"4 of its 21 weights were changed .*q_proj"):
        load_lora(tiny("llama"), folder_of(tmp_path, start))


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal"])
def test_an_adapter_that_leaves_its_base_alone_is_read_to_pefts_logits(start, tmp_path):
    folder, model = folder_of(tmp_path, start), tiny("llama")
    before, ids = bits(model), torch.tensor(ROWS)
    repaired = read_adapter(folder, model, "tiny").lora(model)
    assert bits(model) == before
    theirs = PeftModel.from_pretrained(tiny("llama"), str(folder)).eval()
    assert torch.equal(repaired(input_ids=ids).logits, theirs(input_ids=ids).logits)
    assert not torch.equal(repaired(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("setting", ["use_dora", "use_qalora", "layer_replication", "of_a_newer_peft"])
def test_a_setting_that_would_be_dropped_is_refused_by_name(setting, tmp_path):
    folder = folder_of(tmp_path, **{setting: [[0, 2]] if setting == "layer_replication" else True})
    with pytest.raises(InputError, match=f"{setting} is more than LoRA's two factors"):
        folder_sha(folder)


def test_factors_that_the_settings_have_no_place_for_are_refused(tmp_path):
    folder, model = folder_of(tmp_path, target_modules=["q_proj"]), tiny("llama")
    with pytest.raises(InputError, match=r"has no place for .*v_proj"):
        read_adapter(folder, model, "tiny").lora(model)


def in_place(weight):
    with torch.no_grad():
        weight.mul_(1.5)


def past_the_counter(weight):
    weight.data.mul_(1.5)


def elsewhere(weight):
    weight.data = weight.data * 1.5


def one_bit(weight):
    weight.data.view(torch.int32).view(-1)[7] ^= 1


@pytest.mark.parametrize(
    ("change", "at_once"), [(in_place, True), (past_the_counter, False), (elsewhere, True), (one_bit, False)]
)
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_weight_changed_through_a_copy_is_found(change, at_once, name):
    model = tiny("llama")
    guard, copied = Guard(model, "dense"), share_weights(model)
    guard.verify()
    change(copied.get_parameter(name))
    if at_once:
        with pytest.raises(ChangedWeightsError, match=f"dense: 1 of its 21 weights .*{name}"):
            guard.look()
    with pytest.raises(ChangedWeightsError, match=name):
        guard.verify()


def test_a_layer_that_is_replaced_in_the_parent_is_found_and_one_in_a_copy_is_none():
    model = tiny("llama")
    guard, copied = Guard(model, "dense"), share_weights(model)
    copied.lm_head = torch.nn.Linear(32, 64, bias=False)
    with unchanged(model, "dense"):
        get_peft_model(copied, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    guard.verify()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with pytest.raises(ChangedWeightsError, match=r"lm_head.weight"):
        guard.look()


def test_a_variant_looks_before_it_reads(tokenizer):
    model = tiny("llama")
    variant = Variant("dense", model, tokenizer, guard=Guard(model, "dense"))
    variant.logits(ROWS)
    in_place(share_weights(model).lm_head.weight)
    for ask in (variant.logits, variant.inputs):
        with pytest.raises(ChangedWeightsError):
            ask(ROWS)


ATLAS = {"model": "atlas", "dtype": "float32", "device": "cpu", "template": "none"}


def work(fields, needs, folder):
    """A cell that writes into the dense model as a library may, and keeps a number; without a model where told."""
    if fields.get("without"):
        (folder / "sum.txt").write_text("0\n")
        return
    weight = opening.dense(fields).model.lm_head.weight
    if fields["poison"]:
        past_the_counter(weight)
    (folder / "sum.txt").write_text(f"{float(weight.sum())}\n")


def test_a_cell_that_changed_the_dense_model_is_not_kept_and_the_next_reads_it_anew(tmp_path):
    store = Store(tmp_path)
    fields = ATLAS | {"model_sha": locate("atlas").sha, "threads": 1}

    def job(key, poison):
        described = {"kind": "toy", "key": key}
        return Job(__name__, key, fields | {"poison": poison}, {}, described, str(tmp_path), str(tmp_path))

    worker.compute(job("a", False))
    with pytest.raises(ChangedWeightsError, match="model 'atlas': 1 of its 38 weights"):
        worker.compute(job("b", True))
    assert not store.folder("b").exists()
    worker.compute(job("c", False))
    sums = [(store.folder(key) / "sum.txt").read_text() for key in ("a", "c")]
    assert sums[0] == sums[1]
    opening.close_models()


def test_a_cell_answers_for_no_model_that_was_changed_before_it_began(tmp_path):
    fields = ATLAS | {"model_sha": locate("atlas").sha, "threads": 1}
    past_the_counter(opening.dense(fields).model.lm_head.weight)
    told = {
        key: Job(__name__, key, fields | {"poison": False, "without": key == "a"}, {}, {}, *[str(tmp_path)] * 2)
        for key in "ab"
    }
    worker.compute(told["a"])
    with pytest.raises(ChangedWeightsError, match="model 'atlas'"):
        worker.compute(told["b"])  # which reads it: the copy that is kept in memory
    assert Store(tmp_path).folder("a").exists()
    assert not Store(tmp_path).folder("b").exists()
    opening.close_models()


def test_a_byte_order_mark_before_an_adapters_settings_makes_no_difference(tmp_path):
    folder, model = folder_of(tmp_path), tiny("llama")
    before = read_adapter(folder, model, "tiny").tensors
    path = folder / "adapter_config.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    after = read_adapter(folder, model, "tiny").tensors
    assert all(torch.equal(after[name], before[name]) for name in before)
