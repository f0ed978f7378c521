"""What `doctor` tells of a model's files: what was read beside the weights, and a tokenizer that makes no token."""

import io

import numpy as np
import pytest
from gguf import GGUFValueType
from rich.console import Console
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from analysis.doctor import show_model
from data.errors import InputError
from tests.gguf_making import ROWS, write_gguf
from tests.tiny_models import tiny


def shown(path) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    show_model(console, str(path), "float32", "cpu", length=8, batch=2)
    return console.export_text()


def test_doctor_lists_what_was_read_beside_the_weights(tmp_path):
    keys = {
        "llama.rope.scaling.factor": (4.0, GGUFValueType.FLOAT32),
        "tokenizer.ggml.add_bos_token": (True, GGUFValueType.BOOL),
    }
    model = tiny("llama", vocab_size=ROWS, head_dim=8)
    text = shown(
        write_gguf(tmp_path / "one.gguf", model, keys=keys, tensors={"rope_freqs.weight": np.ones(4, np.float32)})
    )
    assert text.count("parity passed") >= 2  # the backends see the scaling too
    assert "FAILED" not in text
    listed = text.partition("read beside the weights:")[2]
    assert "rotary scaling: linear, factor 4.0" in listed
    assert "every text begins with '<s>'" in listed
    assert "words are cut as 'gpt-2' cuts them" in listed


def test_doctor_says_nothing_of_it_where_nothing_was(tmp_path, tokenizer):
    tiny("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "read beside" not in shown(tmp_path)


def test_a_tokenizer_that_makes_no_token_is_one_line(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    mute = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE({"\t": 0}, [])))
    assert mute("the quick brown fox").input_ids == []
    mute.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its tokenizer makes no token of 'the quick brown fox'") as caught:
        shown(tmp_path)
    assert "\n" not in str(caught.value)
