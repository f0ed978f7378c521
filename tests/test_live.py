"""Typed texts: what is shown is what the stored variants say, opened from their cells and nothing else."""

import json
import shutil

import numpy as np
import pytest

from analysis import live, run
from analysis.store import Store
from analysis.study import Study
from analysis.worker import Job, compute
from data.errors import InputError
from probes.specs.variants import spec_of
from probes.tokens import encode
from tests.declared import manifest
from tests.studies import STUDY

LIVE = Study.model_validate(
    STUDY.model_dump()
    | {"controls": [], "repairs": STUDY.model_dump()["repairs"][:2], "reported": ["prompt-2"]}
    | {"tuning": {"steps": 2, "batch": 4}}
)
TEXT = "in the orchestra gideon ingram is heard on the"
NAMES = ("dense", "magnitude-60%", "magnitude-60% + prompt-2", "magnitude-60% + idp-2,4-attention")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run with the cells that variants are made from; of the scored ones only what they are."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    store, (plan, _) = Store(folder.parent), run.prepare(LIVE)
    specs = {cell.key: spec_of(cell.fields["variant"]) for cell in plan.of("scored")}
    wanted = [cell for cell in plan.of("scored") if specs[cell.key].name in NAMES]
    for cell in wanted:
        for need in cell.needs.values():
            if not store.done(need.key):
                compute(Job.of(need, store))
        with store.writing(cell.key, cell.description):
            pass
    folder.mkdir()
    told = manifest(LIVE.model_dump(mode="json"), cells=[cell.key for cell in plan.cells])
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder, {specs[cell.key].name: specs[cell.key].identity for cell in wanted}


@pytest.fixture(scope="module")
def opened(stored):
    folder, identities = stored
    parts = live.find_parts(folder, list(identities.values()))
    return {name: live.open_parts(parts[one]) for name, one in identities.items()}


def test_what_is_listed_is_what_the_model_says(opened):
    told = live.ask({name: opened[name] for name in NAMES}, TEXT)
    for name, one in told.items():
        variant = opened[name]
        own = variant.logits([encode(variant.tokenizer, TEXT)])[0].log_softmax(-1)
        best = int(own.argmax())
        assert one.next_words[0] == variant.tokenizer.decode([best])
        assert one.next_log_probs[0] == pytest.approx(float(own[best]), abs=1e-5)
        assert list(one.next_log_probs) == sorted(one.next_log_probs, reverse=True)
        rows = one.shown.attention.astype(float).sum(-1)
        assert rows == pytest.approx(1, abs=1e-2)
    assert [told[name].shown.prompt > 0 for name in NAMES] == [False, False, True, True]


def test_idp_tells_its_choice_and_only_idp(opened):
    told = live.ask({name: opened[name] for name in NAMES}, TEXT)
    assert [told[name].kept is None for name in NAMES] == [True, True, True, False]
    bank = told[NAMES[3]]
    assert len(bank.scores) == 2
    assert bank.kept == int(np.argmax(bank.scores))
    assert bank.shown.prompt == (2, 4)[bank.kept]


def test_dense_does_not_drift_from_itself_and_a_pruned_copy_does(opened):
    table = live.drift_table(live.ask({name: opened[name] for name in NAMES}, TEXT), "dense")
    means = table.groupby("variant")["value"].max()
    assert means["dense"] == 0
    assert means["magnitude-60%"] > 1e-3
    assert set(table["tokens"]) == {len(encode(opened["dense"].tokenizer, TEXT))}


def test_a_text_that_is_none_or_too_long_is_refused(opened):
    for text, says in (("the " * 400, "at most"), ("", "no tokens")):
        with pytest.raises(InputError, match=says):
            live.tokens_of(opened["dense"], text)


def test_memory_is_foretold_and_refused(stored, monkeypatch):
    folder, identities = stored
    parts = live.find_parts(folder, list(identities.values()))
    needed = live.bytes_needed(list(parts.values()))
    assert needed > live.bytes_needed([parts[identities["dense"]]])
    monkeypatch.setattr(live, "bytes_free", lambda: needed - 1)
    with pytest.raises(InputError, match="are free: choose fewer"):
        live.check_memory(list(parts.values()))


def test_cells_that_are_gone_are_said(stored, tmp_path):
    folder, identities = stored
    copied = tmp_path / "small"
    shutil.copytree(folder, copied)
    with pytest.raises(InputError, match="are not in"):
        live.find_parts(copied, list(identities.values()))
    with pytest.raises(InputError, match="are not in"):
        live.find_parts(folder, ["nobody"])
