"""What several tests share: no network, one thread, the five tiny families, and a tokenizer that splits words."""

import os
import sys

# Read on import: no test may reach for the hub, nor wait for it; and threads of linear algebra, which on tables as
# small as a test's wait for each other most of the time: four times the work, and as much taken from who runs beside.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from probes import model_files
from probes.backends import NnsightRemoteBackend
from probes.models import open_model
from tests.standing import Studies
from tests.stored_runs import write_run
from tests.tiny_models import TINY_TYPES, VOCABULARY, tiny

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
WORDS = """
    ada bruno celia dario edda fenna greta hector lives in works near the home of is town was born comes from by a
    lon ber oslo bergen turin paris
""".split()
PIECES = "##don ##lin ##er ##s".split()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=80, help="studies and fact files to try; damaged runs: a quarter")


LONGEST = ("known_truth", "run", "choice_boxes", "pages", "browser", "app", "readme", "code_keys", "launching")
"""Files of tests that take longest, longest first: begun last, each would be waited for by a process without work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they are."""
    place = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session", autouse=True)
def _single_thread():
    """Tiny tensors are slower on two threads, and sums in a fixed order repeat bit for bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Word pieces over the tiny vocabulary: `oslo` is one token, `london` two, `berliners` four."""
    names = [*SPECIAL, *WORDS, *PIECES]
    names += [f"w{place}" for place in range(len(names), VOCABULARY)]
    pieces = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


@pytest.fixture(scope="session", params=TINY_TYPES)
def model(request) -> PreTrainedModel:
    """One tiny random model per family, frozen as an opened model is; no test may change it."""
    return tiny(request.param).requires_grad_(False)


@pytest.fixture(scope="session")
def studies(tmp_path_factory) -> Iterator[Studies]:
    """One folder of runs for the session; who damages what is there works on a copy."""
    found = Studies(tmp_path_factory.mktemp("studies"))
    yield found
    found.engine.close()


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder of runs that the pages read, with one run made by hand."""
    runs = tmp_path / "runs"
    write_run(runs / "first")
    monkeypatch.setenv("PALIMPSEST_RUNS", str(runs))
    return runs


@pytest.fixture
def simulated(monkeypatch):
    """nnsight's own simulation of a host: the trace is serialised, our modules are hidden, and it is read back."""
    monkeypatch.setattr(NnsightRemoteBackend, "remote", "local")
    monkeypatch.setattr(sys, "path", list(sys.path))  # the simulation puts back what it hides in another order


@pytest.fixture
def hub(tmp_path, monkeypatch, tokenizer):
    """A hub with one repository for each family, opened by name as a user opens it."""

    def download(repository, *, revision, **_):
        folder = tmp_path / repository.partition("/")[2]
        if not folder.exists():
            tiny(folder.name).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return str(folder)

    monkeypatch.setattr(model_files, "snapshot_download", download)
    return lambda model_type, name="owner/{}", dtype="float32": (
        open_model(name.format(model_type), dtype=dtype, device="cpu").model
    )


@pytest.fixture
def log(tmp_path):
    """Where toy cells write that they were begun."""
    return tmp_path / "begun.log"
