"""A finished run is read within its folder alone, and its figures are told in few words."""

import pytest

from analysis.reading import (
    chances_of,
    compact,
    list_runs,
    read_example,
    read_manifest,
    read_table,
    run_below,
    sentence_of,
)
from data.errors import InputError
from tests.stored_runs import SETTING, write_run


def test_no_path_leaves_the_root(root, tmp_path):
    outside = write_run(tmp_path / "outside")
    (root / "linked").symlink_to(outside)
    write_run(root / "deep" / "inner")
    assert list_runs(root) == ["first"]
    for name in ("../outside", str(outside), "linked", "deep/inner", "deep", "..", ".", ""):
        with pytest.raises(InputError, match="no finished run"):
            run_below(root, name)
    assert run_below(root, "first") == root / "first"


def test_another_schema_is_refused(root):
    (root / "first" / "manifest.json").write_text('{"schema": 1}')
    with pytest.raises(InputError, match="schema 1, and this version reads schema 2: `python -m analysis run STUDY`"):
        read_manifest(root / "first")


def test_chance_is_read_off_the_lists(root):
    answers = read_table(root / "first", "answers")
    assert chances_of(answers)["facts"] == pytest.approx(1 / 6 + 4 / 6 * 1)
    assert "nobody" not in chances_of(answers)


def test_figures_in_few_characters():
    assert compact(0.714, -0.001, 1.0) == ".71 [.00, 1.00]"


@pytest.mark.parametrize("decision", ["displaced", "relearned", "re-injected", "unreached", "undecided"])
def test_every_decision_has_its_sentence(decision):
    said = sentence_of(SETTING | {"decision": decision, "reasons": ["two seeds"]})
    assert len(said) > 20
    assert "erased" not in said


def test_an_example_that_no_file_can_be_called_is_none(tmp_path):
    run = write_run(tmp_path / "first")
    for file in ("x" * 300, "a\x00b", "../verdict.json", "é" * 130, "gone.npz"):
        with pytest.raises(InputError, match="there is no example") as said:
            read_example(run, file)
        assert len(str(said.value)) < 200
