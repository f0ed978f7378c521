"""What a repair is, is what its specification says, however its name reads."""

from typing import Any

import pandas as pd
import pytest
from pydantic import TypeAdapter

from analysis.look import REPAIR_COLOURS, SYMBOLS, colour_of, kind_of, looks_of, symbols_of
from probes.specs.repairs.adapter import FolderSpec
from probes.specs.repairs.base import AnyRepair
from probes.specs.repairs.ensemble import EnsembleSpec
from probes.specs.repairs.idp import IdpSpec
from probes.specs.repairs.lora import LoraSpec
from probes.specs.repairs.placebo import PlaceboSpec
from probes.specs.repairs.prefix import PrefixSpec
from probes.specs.repairs.prompt import PromptSpec
from probes.specs.repairs.quantised import QuantisedSpec
from probes.specs.repairs.sparse import SparseSpec
from probes.specs.repairs.text import TextSpec
from probes.specs.repairs.transferred import TransferredSpec

PROMPT: dict[str, Any] = {"length": 8, "learning_rate": 0.1}
LORA = LoraSpec(rank=2, learning_rate=0.1)
BANK: dict[str, Any] = {"lengths": (8, 8), "learning_rate": 0.1}
SPECS = [
    (TextSpec(text="say which word is masked"), "text"),
    (TextSpec(text="words that are shuffled"), "text"),
    (FolderSpec(path="/made/prompt-on-lora-shuffled"), "adapter"),
    (PromptSpec(**PROMPT), "prompt"),
    (PromptSpec(**PROMPT, answers="masked"), "masked"),
    (PromptSpec(**PROMPT, answers="shuffled", steps=3), "shuffled"),
    (PlaceboSpec(length=8, draw="gaussian"), "placebo"),
    (IdpSpec(**BANK), "idp"),
    (IdpSpec(**BANK, adapter=LORA), "idp+lora"),
    (EnsembleSpec(**BANK), "ensemble"),
    (QuantisedSpec(of=PrefixSpec(**PROMPT), bits=4), "prefix"),
    (SparseSpec(of=PromptSpec(**PROMPT), sparsity=0.5), "prompt"),
    (TransferredSpec(of=LORA, source=None), "lora"),
]


def run_of(specs):
    """The table of variants of a run that has these repairs."""
    rows = [{"compression": "dense", "repair": one.name, "kind": one.kind, "drawn_as": one.drawn_as} for one in specs]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("spec", "kind"), SPECS)
def test_a_repair_is_drawn_as_what_it_is(spec, kind):
    with looks_of(run_of([spec])):
        assert kind_of(spec.name) == kind
        assert colour_of(spec.name) == REPAIR_COLOURS.get(kind, colour_of("nothing"))
        assert symbols_of([spec.name])[spec.name] == SYMBOLS.get(kind, "cross")
    assert TypeAdapter(AnyRepair).validate_json(spec.model_dump_json()).drawn_as == kind


def test_a_text_that_speaks_of_masks_is_no_placebo():
    text, masked = TextSpec(text="say which word is masked"), PromptSpec(**PROMPT, answers="masked")
    assert text.name == "text-say-which-word-is-masked"
    with looks_of(run_of([text, masked])):
        assert colour_of(text.name) == REPAIR_COLOURS["text"] != colour_of(masked.name)
        assert symbols_of([text.name, masked.name]) == {text.name: "bowtie", masked.name: "triangle-down"}
