"""A name too long for a file, typed into the form of a study, is one sentence."""

import sys

import pytest
import yaml

from analysis import launching
from analysis.asking import bare
from analysis.study import load_study
from data.errors import InputError
from tests.opened_pages import errors_of, opened


@pytest.mark.parametrize("letters", [201, 250, 300, 5000])
def test_a_study_whose_name_is_too_long_is_refused_before_anything_is_written(letters, tmp_path):
    text = yaml.safe_dump(bare(load_study("atlas")) | {"name": "n" * letters})
    for refused in (launching.resolution_of, launching.launch):
        with pytest.raises(InputError, match=r"name: 'n+…' has .* letters, and a study's name has 200 at most") as said:
            refused(text, tmp_path)
        assert len(str(said.value)) < 200
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_may_just_be_called_so_has_room_for_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "command_of", lambda study, root: [sys.executable, "-c", ""])
    launching.launch(yaml.safe_dump({"name": "n" * 200}), tmp_path)
    (folder,) = (tmp_path / launching.FOLDER).iterdir()
    assert (folder / launching.STUDY).is_file()


def test_the_form_says_so_where_the_button_is(root):
    page = opened("new_study")
    next(one for one in page.text_input if one.label == "Name").set_value("n" * 300).run()
    for key in ("estimate", "run_study"):
        page.button(key=key).click().run()
        assert errors_of(page) == []
        assert "200 at most" in page.warning[0].value
