"""Evaluation tasks: lm-eval's own by name where a hub is reached, or JSONL files, one item a line, where it is not.

The shapes of a line, told by its keys:

    question, choices, answer        the most likely choice counts; `answer` is its place, from 0
    options, continuation, answer    contexts that differ, one same continuation; the place of the right context
    context, continuation            the continuation counts when it is what greedy decoding says
    prompt, answer                   the same
    question, aliases                what is said up to the end of a line or clause counts when it is an alias, or the
                                     `answer` where the line names one
    question, answers                counts when greedy decoding says one of the answers

The folder `atlas` is the one that ships: tasks in the atlas's own words (`data/atlas/tasks.py`).
"""

import difflib
import hashlib
import json
import logging
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atlas.tasks import TASKS as ATLAS_TASKS
from data.errors import InputError
from data.hub import commit_of
from data.paths import user_path
from data.task_code import foreign_code
from data.task_names import FILE_NAMES, PAPER_NINE, PAPER_TASKS, domain_of

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

FEW = 20
"""Names that are listed whole."""
ATLAS = "atlas"
"""The folder of tasks that ships; a user's own of that name is `./atlas`."""
_SHIPPED = f"{ATLAS}:"
_QUESTION = "Question: {{question}}\nAnswer:"
_MEAN = {"aggregation": "mean", "higher_is_better": True}
_ACCURACY = [{"metric": "acc", **_MEAN}]
_BOTH = [*_ACCURACY, {"metric": "acc_norm", **_MEAN}]
_FILTERS = ("remove_whitespace", "take_first")
_HALF = re.compile("[\ud800-\udfff]")
_GREEDY = {"output_type": "loglikelihood", "metric_list": _ACCURACY}


@dataclass(frozen=True)
class Shape:
    """A form of item: what each field holds, and how lm-eval asks it."""

    fields: Mapping[str, str]
    """By name: `text`, `texts`, or `place in X`, where X is another field."""
    settings: Mapping[str, Any]


SHAPES = (
    Shape(
        {"question": "text", "choices": "texts", "answer": "place in choices"},
        {"output_type": "multiple_choice", "doc_to_text": _QUESTION, "doc_to_choice": "choices"}
        | {"doc_to_target": "answer", "metric_list": _BOTH},
    ),
    Shape(
        {"options": "texts", "continuation": "text", "answer": "place in options"},
        {"output_type": "multiple_choice", "doc_to_text": "answer", "doc_to_choice": "options"}
        | {"doc_to_target": "continuation", "metric_list": _ACCURACY},
    ),
    Shape(
        {"context": "text", "continuation": "text"},
        _GREEDY | {"doc_to_text": "context", "doc_to_target": "{{' ' + continuation}}"},
    ),
    Shape(
        {"prompt": "text", "answer": "text"},
        _GREEDY | {"doc_to_text": "prompt", "doc_to_target": "{{' ' + answer}}"},
    ),
    Shape(
        {"question": "text", "aliases": "texts"},
        {"output_type": "generate_until", "doc_to_text": _QUESTION, "doc_to_target": "aliases"}
        | {"generation_kwargs": {"until": ["\n", ".", ","], "do_sample": False, "max_gen_toks": 24}}
        | {
            "filter_list": [
                {"name": "words", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
            ]
        }
        | {"metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True, **_MEAN}]},
    ),
    Shape(
        {"question": "text", "answers": "texts"},
        {"output_type": "multiple_choice", "doc_to_text": _QUESTION, "doc_to_choice": "answers"}
        | {"doc_to_target": "{{range(answers | length) | list}}", "metric_list": [{"metric": "exact_match", **_MEAN}]},
    ),
)


@dataclass(frozen=True)
class TaskSource:
    """A task by name, and the file that holds its items; without one it is lm-eval's own."""

    name: str
    file: str | None = None
    """As typed, so that no cell's key tells where this checkout lies: `atlas:` begins a file that ships."""
    sha: str = ""
    """Hash of the file's bytes; of lm-eval's own task the commits of its data sets, where they can be known."""

    @property
    def path(self) -> Path:
        """Where its file lies."""
        assert self.file is not None
        if self.file.startswith(_SHIPPED):
            return ATLAS_TASKS / self.file.removeprefix(_SHIPPED)
        return Path(self.file)

    @property
    def domain(self) -> str:
        """What it is read as asking for."""
        return domain_of(self.name)


def find_tasks(names: Sequence[str] | None, files: str | None) -> list[TaskSource]:
    """The tasks of these names, `paper-nine` among them: from a folder of JSONL files where one is given.

    Without names all of the folder's, or `paper-nine`.

    Raises:
        InputError: an unknown name (with the nearest ones), no such folder, or a broken line (with its number).
    """
    wanted = names or ([PAPER_NINE] if files is None else None)
    listed = None
    if wanted is not None:
        spelt = [PAPER_TASKS if name == PAPER_NINE else (name,) for name in wanted]
        listed = list(dict.fromkeys(name for part in spelt for name in part))
    if files is not None:
        return _in_folder(files, listed)
    assert listed is not None
    known = lm_eval_tasks().all_tasks
    for name in listed:
        if name not in known:
            raise InputError(f"tasks: lm-eval has no task '{name}'{_nearest(name, known)}")
    return [hub_task(name) for name in listed]


def hub_task(name: str) -> TaskSource:
    """lm-eval's own task of this name, with the commits of the data sets that it reads.

    Raises:
        InputError: to score it, code from the hub or of a model's would be run.
    """
    _refuse_foreign_code(name)
    datasets = {one["dataset_path"] for one in _settings_of(name) if isinstance(one.get("dataset_path"), str)}
    commits = {dataset: commit_of(dataset) for dataset in sorted(datasets)}
    told = [f"{dataset}@{commit}" for dataset, commit in commits.items() if commit]
    return TaskSource(name, sha=" ".join(told))


def _refuse_foreign_code(name: str) -> None:
    """Refuse a task, or a group or tag with one in it, by lm-eval's settings: nothing of it is opened before."""
    for settings in _settings_of(name):
        if why := foreign_code(settings):
            one = settings.get("task")
            told = f"'{one}' of '{name}'" if isinstance(one, str) and one != name else f"'{name}'"
            raise InputError(f"task {told}: {why}, and such code is never run: leave it out")


@lru_cache(maxsize=64)
def _settings_of(name: str) -> tuple[dict[str, Any], ...]:
    """lm-eval's settings of a task, or of a group or tag and all that is in it; its functions are not imported."""
    index = lm_eval_tasks().task_index
    found: list[dict[str, Any]] = []
    left: list[Any] = [name]
    seen: set[str] = set()
    while left:
        one = left.pop()
        if isinstance(one, dict):  # what is written down under a name, or within a group
            found.append(one)
            members = one.get("task")
            left += [one.get("group"), *(members if isinstance(members, list) else [members])]
        elif isinstance(one, str) and one in index and one not in seen:
            seen.add(one)
            entry = index[one]
            left += sorted(entry.tags) if entry.cfg is None else [entry.cfg]  # a tag has no settings of its own
    return tuple(found)


def _in_folder(files: str, names: list[str] | None) -> list[TaskSource]:
    """Tasks from files, every line of which is checked."""
    folder = ATLAS_TASKS if files == ATLAS else user_path(files)
    if not folder.is_dir():
        raise InputError(f"tasks.files: there is no folder '{folder}'")
    there = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    if not there:
        raise InputError(f"tasks.files: '{folder}' holds no file *.jsonl, one task each")
    found = []
    for name in list(there) if names is None else names:
        path = there.get(name) or there.get(FILE_NAMES.get(name, name))
        if path is None:
            raise InputError(f"tasks: '{folder}' has no file {name}.jsonl{_nearest(name, list(there))}")
        read_items(path)
        file = f"{_SHIPPED}{path.name}" if files == ATLAS else str(path)
        found.append(TaskSource(name, file, hashlib.sha256(path.read_bytes()).hexdigest()))
    return found


def _nearest(name: str, known: Sequence[str]) -> str:
    """What may have been meant; all there are where they are few and none is near."""
    if near := difflib.get_close_matches(name, known, n=3, cutoff=0.5):
        return f"; the nearest are {', '.join(near)}"
    return f"; there are {', '.join(sorted(known))}" if len(known) <= FEW else ""


def read_items(path: Path) -> tuple[Shape, list[dict[str, Any]]]:
    """The items of a file and their shape, told by the first.

    Raises:
        InputError: naming the file, the line and what is wrong with it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"task file '{path}' cannot be read as UTF-8 text ({type(error).__name__})") from None
    shape, items = None, []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:  # of brackets without end, or a number of thousands of digits
            why = getattr(error, "msg", type(error).__name__)
            raise InputError(f"task file '{path}', line {number}: no JSON ({why}): mend or drop it") from None
        shape = shape or _shape_of(item)
        if shape is None:
            raise InputError(
                f"task file '{path}', line {number}: its keys make no known shape; give "
                f"{' or '.join('{' + ', '.join(one.fields) + '}' for one in SHAPES)}"
            )
        if fault := _fault(item, shape):
            raise InputError(f"task file '{path}', line {number}: {fault}")
        items.append(_completed({name: item[name] for name in shape.fields}, item))
    if shape is None:
        raise InputError(f"task file '{path}' holds no item")
    return shape, items


def _completed(kept: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """The fields of an item; its answer is one of its aliases even where they leave it out, as TriviaQA's often do."""
    answer = item.get("answer")
    if "aliases" in kept and _is_text(answer):
        kept["aliases"] = list(dict.fromkeys([answer, *kept["aliases"]]))
    return kept


def _shape_of(item: object) -> Shape | None:
    """The first shape whose keys an item has."""
    keys = set(item) if isinstance(item, dict) else set()
    return next((shape for shape in SHAPES if set(shape.fields) <= keys), None)


def _fault(item: object, shape: Shape) -> str | None:
    """What is wrong with an item of this shape."""
    if not isinstance(item, dict) or (missing := sorted(set(shape.fields) - set(item))):
        return "it is no object" if not isinstance(item, dict) else f"it lacks {', '.join(missing)}"
    for name, kind in shape.fields.items():
        value = item[name]
        if kind == "text" and not _is_text(value):
            return f"'{name}' must be text that is not empty{_halved(value)}"
        if kind == "texts" and not (isinstance(value, list) and value and all(_is_text(one) for one in value)):
            return f"'{name}' must be a list of texts, none empty{_halved(value)}"
        if kind.startswith("place in "):
            among = item[kind.removeprefix("place in ")]
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(among):
                return f"'{name}' must be a place from 0 to {len(among) - 1}"
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not _HALF.search(value)


def _halved(value: object) -> str:
    """What JSON can say and no tokenizer reads: half of a character."""
    found = any(isinstance(one, str) and _HALF.search(one) for one in (value if isinstance(value, list) else [value]))
    return ", of whole characters (no \\ud800 to \\udfff alone)" if found else ""


@lru_cache(maxsize=1)
def lm_eval_tasks() -> "TaskManager":
    """lm-eval's index of its own tasks; reading it takes seconds, and is needed for names alone."""
    from lm_eval.tasks import TaskManager

    quiet()
    return TaskManager()


def quiet() -> None:
    """Keep lm-eval's and datasets' progress and advice out of the run's own."""
    import datasets

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()


def open_task(source: TaskSource) -> dict[str, "Task"]:
    """A task ready to be asked, or all the tasks of a group (mmlu), by name.

    Raises:
        InputError: its data set cannot be reached, its file has changed, or it would run code from the hub.
    """
    if source.file is not None:
        path = source.path
        if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha:
            raise InputError(f"task file '{path}' changed while the study ran: start it again")
        return {source.name: _from_file(source.name, path)}
    now = hub_task(source.name).sha if source.sha else ""
    if now and now != source.sha:
        raise InputError(f"task '{source.name}': its data set on the hub changed while the study ran: start it again")
    return _from_hub(source.name)


def _from_file(name: str, path: Path) -> "Task":
    """lm-eval's own task over the items of a file."""
    from lm_eval.api.task import ConfigurableTask

    quiet()
    shape, items = read_items(path)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "items.jsonl"
        plain.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        where = {"data_files": {"test": str(plain)}, "cache_dir": folder, "keep_in_memory": True}
        settings = json.loads(json.dumps(dict(shape.settings)))  # lm-eval writes into what it is given
        return ConfigurableTask(
            config={"task": name, "dataset_path": "json", "dataset_kwargs": where, "test_split": "test"} | settings
        )


def _from_hub(name: str) -> dict[str, "Task"]:
    """lm-eval's task by name."""
    _refuse_foreign_code(name)
    manager = lm_eval_tasks()
    try:
        return dict(manager.load([name])["tasks"])
    except (OSError, ValueError, RuntimeError, LookupError, ImportError) as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise InputError(
            f"task '{name}': its data set does not open ({type(error).__name__}: {why}): check the connection to the "
            "hub and that you may read it there, or give JSONL files in a folder (tasks.files)"
        ) from None


def drawn(tasks: Mapping[str, "Task"], most: int | None, seed: int) -> dict[str, list[int]]:
    """Places of the items asked, drawn with a seed where there are more than `most` in all; in order."""
    places = [(name, place) for name, task in tasks.items() for place in range(len(task.eval_docs))]
    if most is not None and most < len(places):
        places = sorted(random.Random(f"tasks {seed}").sample(places, most))
    found: dict[str, list[int]] = {}
    for name, place in places:
        found.setdefault(name, []).append(place)
    return found
