"""Encodings: a byte order mark and line ends make no difference in any file of a user's; other encodings are a line."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.study import SHIPPED, load_study
from data.errors import InputError
from data.facts import load_csv
from data.task_files import read_items
from data.text import PARTS, load_text
from data.user_files import read_text

ITEMS = [{"question": f"Où est {who} ?", "choices": ["Zürich", "São Paulo"], "answer": 1} for who in ("Zoë", "Bo")]
PHRASINGS = """siège:
  tune: ["Le siège de {subject} est à", "On trouve {subject} à"]
  damage: "Pour {subject} on va à"
  measure: |-
    Où est {subject} ?
    À
"""
FACTS = "relation,subject,answer\n" + "".join(
    f'siège,"la «Société»\n numéro {place}",{("Zürich", "São Paulo")[place % 2]}\n' for place in range(10)
)
FILES = {
    "mine.csv": FACTS,
    "mine.yaml": PHRASINGS,
    "mine.jsonl": "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in ITEMS),
    "mine.txt": "\n\n".join(f"Première ligne\n du numéro {place}" for place in range(12)),
    "study.yaml": (SHIPPED / "smollm2.yaml").read_text(encoding="utf-8").replace("title: ", "title: É "),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "mine.csv": lambda folder: load_csv(folder / "mine.csv"),
    "mine.yaml": lambda folder: load_csv(folder / "mine.csv"),
    "mine.jsonl": lambda folder: read_items(folder / "mine.jsonl"),
    "mine.txt": lambda folder: [load_text(f"file:{folder / 'mine.txt'}", part).paragraphs for part in PARTS],
    "study.yaml": lambda folder: load_study(str(folder / "study.yaml")),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


def marked(text: bytes) -> bytes:
    return codecs.BOM_UTF8 + text


def windows(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


def old_mac(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r")


FORMS = {
    "mark": marked,
    "CRLF": windows,
    "CR": old_mac,
    "mark and CRLF": lambda text: marked(windows(text)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FILES)
def test_a_byte_order_mark_and_line_ends_make_no_difference(name, form, folder):
    clean = READERS[name](folder)
    path = folder / name
    path.write_bytes(FORMS[form](path.read_bytes()))
    assert READERS[name](folder) == clean


def test_files_put_behind_one_another_have_no_marks_inside(folder):
    path = folder / "mine.jsonl"
    clean = read_items(path).items
    path.write_bytes(marked(path.read_bytes()) * 2)
    assert read_items(path).items == clean * 2
    path = folder / "mine.txt"
    path.write_bytes(marked(b"one\n\n" + marked(b"two\n\nthree\n\nfour")))
    assert sorted(one for part in PARTS for one in load_text(f"file:{path}", part).paragraphs) == [
        *("four", "one", "three", "two")
    ]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "it is UTF-16 or UTF-32; save it as UTF-8"),
        ("utf-32", "it is UTF-16 or UTF-32; save it as UTF-8"),
        ("utf-16-le", "NUL byte in line 1, as UTF-16 and files of no text do; save it as UTF-8"),
        ("utf-16-be", "NUL byte in line 1, as UTF-16 and files of no text do; save it as UTF-8"),
        ("cp1252", "line {line} holds the byte 0x{byte}; save it as UTF-8"),
        ("latin-1", "line {line} holds the byte 0x{byte}; save it as UTF-8"),
    ],
)
def test_another_encoding_is_one_sentence(name, encoding, said, folder):
    path = folder / name
    text = path.read_text(encoding="utf-8")
    first = next(place for place, one in enumerate(text) if not one.isascii())
    said = said.format(line=text[:first].count("\n") + 1, byte=text[first].encode("cp1252").hex().upper())
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=rf"{name}' cannot be read as UTF-8 text: .*{said}") as caught:
        READERS[name](folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_nul_byte_is_named_with_its_line(name, folder):
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n\x00", 1))
    with pytest.raises(InputError, match="it holds a NUL byte in line 2"):
        READERS[name](folder)


def test_the_line_of_a_byte_is_the_one_an_editor_shows(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"a\r\nb\r\nc\xe9")
    with pytest.raises(InputError, match="line 3 holds the byte 0xE9"):
        read_text(path, "text")
    path.write_bytes("\ufeffa\r\n\r\ufeffb\u2028c \ufeffd".encode())
    assert read_text(path, "text") == "a\n\nb\u2028c \ufeffd"
