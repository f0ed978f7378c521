"""Every model family goes through the same: opened, hooked, prompted, compressed, baked; one more takes one entry."""

from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from analysis import run
from analysis.opening import close_models
from analysis.reading import read_table
from analysis.shapes import Shape
from analysis.store import Store
from analysis.study import load_study
from analysis.worker import Job, compute
from data.errors import InputError
from probes.bake import bake, oriented_weight
from probes.capture import Recorder
from probes.families import Heads, families, family_of, llama, registered
from probes.families.family import Family
from probes.gguf_shapes import GgufReading, embedding
from probes.inputs import build_inputs
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.sites import Kind, Site, kinds_of, sites_of, sizes_of
from tests.brought_studies import PEOPLE, brought
from tests.gguf_making import ROWS as ROWS_OF_FILES
from tests.gguf_making import write_gguf
from tests.sequences import captured, sequences
from tests.tiny_models import HEADS, LAYERS, WIDTH, tiny


def toy_gguf_shape(keys):
    """The shape of a GGUF file of the toy's."""
    heads, width = keys.whole("attention.head_count"), keys.whole("embedding_length")
    share = keys.whole("rope.dimension_count") * heads / width  # of a head that turns with its position
    return embedding(keys) | {
        "hidden_size": width,
        "intermediate_size": keys.whole("feed_forward_length"),
        "num_hidden_layers": keys.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.whole("attention.head_count_kv"),
        "max_position_embeddings": keys.whole("context_length"),
        "layer_norm_eps": keys.number("attention.layer_norm_epsilon"),
        "rope_parameters": {
            "rope_theta": keys.number("rope.freq_base"),
            "rope_type": "default",
            "partial_rotary_factor": share,
        },
    }


TOY = Family(
    model_type="stablelm",
    blocks="model.layers",
    attention="self_attn",
    mlp="mlp",
    final_norm="model.norm",
    linears=llama.FAMILY.linears,
    between="post_attention_layernorm",
    gguf=GgufReading(toy_gguf_shape),
)
EVERY = [*families(), TOY]
ROWS = [[5, 9, 33, 7, 12], [40, 41], [8, 8, 21]]


@pytest.fixture(params=EVERY, ids=[one.name for one in EVERY])
def saved(request, tmp_path, tokenizer):
    """A tiny random model of a family as transformers saves it; the toy's is registered while it is used."""
    if request.param is not TOY:
        tiny(request.param.model_type).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        yield tmp_path
        return
    with registered(TOY):
        tiny(TOY.model_type).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        yield tmp_path


def opened(folder):
    return open_model(str(folder), dtype="float32", device="cpu").model


def test_its_logits_are_those_of_plain_transformers(saved):
    model = opened(saved)
    plain = AutoModelForCausalLM.from_pretrained(saved, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for row in ROWS:
            ids = torch.tensor([row])
            torch.testing.assert_close(model(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


def test_every_site_is_hooked_with_its_shape_and_reads_what_the_pass_computes(saved):
    model = opened(saved)
    inputs = sequences(model)
    found = captured(model, inputs)
    assert set(found) == set(sites_of(model, Kind))
    sizes = sizes_of(model, 3, 9)
    for site, tensor in found.items():
        assert tuple(tensor.shape) == tuple(sizes[axis] for axis in site.kind.axes.split()), site
    heads = Heads.of(model)
    assert (heads.query, heads.width) == (HEADS, WIDTH // HEADS)
    assert Recorder(model, backend="hooks").parity(inputs, sites_of(model, Kind)).require().passed
    real = inputs.content
    for layer in range(LAYERS):
        assert found[Site(layer, Kind.PATTERN)].shape == (3, HEADS, 9, 9)
        pattern = found[Site(layer, Kind.PATTERN)].transpose(1, 2)[real]
        torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
        halfway = found[Site(layer, Kind.RESID_PRE)] + found[Site(layer, Kind.ATTN_OUT)]
        whole = halfway + found[Site(layer, Kind.MLP_OUT)]
        torch.testing.assert_close(found[Site(layer, Kind.RESID_POST)][real], whole[real], rtol=1e-4, atol=1e-5)
        if Kind.RESID_MID in kinds_of(model):
            torch.testing.assert_close(found[Site(layer, Kind.RESID_MID)][real], halfway[real], rtol=1e-4, atol=1e-5)


def test_a_soft_prompt_stands_before_the_question(saved):
    model = opened(saved)
    prompt = draw_prompt(model, 3, seed=1)
    with torch.no_grad():
        told = model(**build_inputs(model, [ROWS[0]], [prompt]).forward_arguments()).logits
        by_hand = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(ROWS[0]))])[None]
        torch.testing.assert_close(told, model(inputs_embeds=by_hand).logits, rtol=1e-4, atol=1e-5)
        bare = model(input_ids=torch.tensor([ROWS[0]])).logits
    assert not torch.allclose(told[:, -1], bare[:, -1], atol=1e-3)


def test_its_linear_layers_are_compressed_and_the_copy_reopens_to_the_bit(saved):
    model = opened(saved)
    family, layers = family_of(model), family_of(model).linears_of(model)
    inside = [name for name, part in family.blocks_of(model).named_modules() if type(part).__name__ in LINEAR]
    assert sorted(layers) == sorted(f"{family.blocks}.{name}" for name in inside)
    halves = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    for weight in halves.values():
        weight[weight.abs() < weight.abs().median()] = 0
    copy = bake(model, [(name, one.T if family.conv1d else one) for name, one in halves.items()])
    copy.save_pretrained(saved / "copy")
    again = AutoModelForCausalLM.from_pretrained(saved / "copy").state_dict()
    for name, tensor in model.state_dict().items():
        expected = halves.get(name.removesuffix(".weight"), tensor) if name.endswith(".weight") else tensor
        assert torch.equal(again[name], expected), name


LINEAR = ("Linear", "Conv1D")


def test_a_linear_layer_is_read_as_out_by_in_however_it_is_stored(saved):
    """What a layer makes of each unit vector is a column of its weight."""
    model = opened(saved)
    family = family_of(model)
    for name, layer in family.linears_of(model).items():
        weight = oriented_weight(model, name)
        units = torch.eye(weight.shape[1])
        with torch.no_grad():
            made = layer(units) - layer(torch.zeros_like(units))
        torch.testing.assert_close(made.T, weight, rtol=1e-4, atol=1e-5)
        assert torch.equal(layer.weight, weight.T if family.conv1d else weight)


@pytest.mark.parametrize("family", EVERY, ids=[one.name for one in EVERY])
def test_its_size_is_that_of_its_layers(family):
    """The width inside an MLP is found whatever the configuration calls it."""
    known = AutoConfig.for_model(family.model_type)
    (word,) = [name for name in ("intermediate_size", "ffn_dim", "n_inner") if hasattr(known, name)]
    with nullcontext() if family is not TOY else registered(TOY):
        shape = Shape.of(tiny(family.model_type, **{word: 40}))
    assert (shape.inner, shape.width, shape.layers, shape.heads) == (40, WIDTH, LAYERS, HEADS)


def test_a_family_from_this_file_goes_from_a_study_to_its_tables(tmp_path):
    with registered(TOY):
        drift = {"questions": 4, "windows": 2, "length": 16, "batch": 2, "backend": "hooks"}
        path = brought(tmp_path, model_type=TOY.model_type, drift=drift)
        study, kept = load_study(path), Store(tmp_path / "runs")
        plan, _ = run.prepare(study)
        for cell in plan.cells:
            compute(Job.of(cell, kept))
        folder = run.run(study, out=tmp_path / "runs")
        (made,) = plan.of("compressed")
        copy = load_file(kept.folder(made.key) / "weights.safetensors")
        opened_model = open_model(str(tmp_path / "model"), dtype="float32", device="cpu")
    close_models()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    variants = read_table(folder, "variants").set_index("variant_id")["variant"]
    answers = read_table(folder, "answers")
    answers = answers[(answers["reading"] == "vocabulary") & (answers["phrasing"] == "measure")]
    for name in ("dense", study.compressions[0].name):
        mine = answers[answers["variant_id"].map(variants) == name]
        assert len(mine) == len(PEOPLE)
        for row in mine.itertuples():
            question = f"one who is {row.entity} lives in"
            ids = torch.tensor([opened_model.tokenizer(question, add_special_tokens=False).input_ids])
            right = opened_model.tokenizer.convert_tokens_to_ids(row.answer)
            with torch.no_grad():
                expected = float(plain(input_ids=ids).logits[0, -1].log_softmax(-1)[right])
            assert row.log_prob == pytest.approx(expected, abs=1e-4)
        for layer, weight in copy.items():  # what follows is asked of the copy
            plain.get_submodule(layer).weight.data.copy_(weight)
    assert len(read_table(folder, "drift"))
    with pytest.raises(InputError, match="'stablelm' are not supported; open one of type llama, qwen2, opt"):
        open_model(str(tmp_path / "model"), dtype="float32", device="cpu")


def test_a_gguf_file_of_a_family_from_this_file_opens_as_it_says(tmp_path):
    model = tiny(TOY.model_type, vocab_size=ROWS_OF_FILES, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    path = write_gguf(tmp_path / "toy.gguf", model)
    with registered(TOY):
        found = opened(path)
    ids = torch.tensor([ROWS[0]])
    with torch.no_grad():
        assert torch.equal(found(input_ids=ids).logits, model(input_ids=ids).logits)
    with pytest.raises(InputError, match="'stablelm' are not supported; open one of llama, qwen2, gpt2"):
        opened(path)
