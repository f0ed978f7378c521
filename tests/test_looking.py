"""Look before you load: what the small files of a hub's model tell is refused before its weights are asked for."""

import json

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from data.errors import InputError
from probes import model_files
from probes.model_files import SMALL
from probes.models import locate, look, open_model
from tests.tiny_models import tiny

IDS = torch.tensor([[5, 9, 33, 7, 12]])


class Repository:
    """A hub's repository: hands out the files that match, and remembers what was asked for."""

    def __init__(self, source, cache):
        self.source, self.cache, self.asked = source, cache, []

    def download(self, repository, *, revision, allow_patterns, local_files_only):
        self.asked.append(tuple(allow_patterns))
        self.cache.mkdir(exist_ok=True)
        for pattern in allow_patterns:
            for path in self.source.glob(pattern):
                (self.cache / path.name).write_bytes(path.read_bytes())
        return str(self.cache)

    def listed(self, repository, *, revision):
        return [path.name for path in self.source.iterdir()]


@pytest.fixture
def repository(tmp_path, monkeypatch, tokenizer):
    (tmp_path / "source").mkdir()
    tokenizer.save_pretrained(tmp_path / "source")
    held = Repository(tmp_path / "source", tmp_path / "cache")
    monkeypatch.setattr(model_files, "snapshot_download", held.download)
    monkeypatch.setattr(model_files, "list_repo_files", held.listed)
    return held


def refusal(attempt) -> str:
    with pytest.raises(InputError) as caught:
        attempt("owner/model")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def opened(name):
    return open_model(name, dtype="float32", device="cpu")


def test_what_goes_is_downloaded_small_files_first(repository):
    tiny("llama").save_pretrained(repository.source)
    assert look("owner/model").model_type == "llama"
    assert repository.asked == [SMALL]
    assert not list(repository.cache.glob("*.safetensors"))
    assert look("owner/model").tokenizer()("ada").input_ids
    repository.asked.clear()
    assert torch.equal(opened("owner/model").model(IDS).logits, tiny("llama")(IDS).logits)
    assert repository.asked == [SMALL, (*SMALL, "*.safetensors")]


@pytest.mark.parametrize("attempt", [look, locate, opened])
def test_a_family_that_is_not_supported_is_not_downloaded(attempt, repository):
    BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2)).save_pretrained(repository.source)
    assert "Models of type 'bloom' are not supported" in refusal(attempt)
    assert set(repository.asked) == {SMALL}


@pytest.mark.parametrize("attempt", [look, locate, opened])
def test_a_method_that_is_not_opened_is_not_downloaded(attempt, repository):
    tiny("llama").save_pretrained(repository.source)
    config = json.loads((repository.source / "config.json").read_text())
    told = {"quantization_config": {"quant_method": "fp8"}}
    (repository.source / "config.json").write_text(json.dumps(config | told))
    assert "model 'owner/model' is quantised with fp8" in refusal(attempt)
    assert set(repository.asked) == {SMALL}


@pytest.mark.parametrize("attempt", [look, locate, opened])
def test_a_pickle_is_seen_in_the_list_of_files(attempt, repository):
    tiny("llama").save_pretrained(repository.source)
    (repository.source / "model.safetensors").rename(repository.source / "pytorch_model.bin")
    assert "(pytorch_model.bin) are a pickle" in refusal(attempt)
    assert set(repository.asked) == {SMALL}


def test_tensors_without_a_place_are_seen_once_the_files_are_there(repository):
    tiny("llama", attention_bias=True).save_pretrained(repository.source)
    config = json.loads((repository.source / "config.json").read_text())
    (repository.source / "config.json").write_text(json.dumps(config | {"attention_bias": False}))
    assert "model 'owner/model': its weights hold 8 tensors" in refusal(opened)


def test_a_template_in_a_file_of_its_own_is_downloaded_and_in_the_hash(repository, tokenizer):
    tiny("llama").save_pretrained(repository.source)
    before = locate("owner/model").sha
    (repository.source / "chat_template.jinja").write_text("{{ messages }}")
    assert locate("owner/model").sha != before
    assert look("owner/model").tokenizer().chat_template == "{{ messages }}"


@pytest.mark.parametrize("name", ["atlas", "atlas-twin"])
def test_the_bundled_models_pass(name):
    assert look(name).read_beside == ()
