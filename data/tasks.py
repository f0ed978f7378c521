"""Evaluation tasks: lm-eval's own by name where a hub is reached, or JSONL files, one item a line, where it is not.

`data/task_files.py` has the shapes of a line.
The folder `atlas` is the one that ships: tasks in the atlas's own words (`data/atlas/tasks.py`).
"""

import difflib
import hashlib
import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atlas.tasks import TASKS as ATLAS_TASKS
from data.errors import InputError
from data.hub import commit_of
from data.names import canonical, read_name
from data.paths import user_path
from data.task_code import foreign_code
from data.task_files import NAMES, Shape, read_items
from data.task_names import FILE_NAMES, PAPER_NINE, PAPER_TASKS, domain_of

if TYPE_CHECKING:
    from datasets import Dataset
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

FEW = 20
"""Names that are listed whole."""
ATLAS = "atlas"
"""The folder of tasks that ships; a user's own of that name is `./atlas`."""
_SHIPPED = f"{ATLAS}:"


@dataclass(frozen=True)
class TaskSource:
    """A task by name, and the file that holds its items; without one it is lm-eval's own."""

    name: str
    file: str | None = None
    """As typed, so that no cell's key tells where this checkout lies: `atlas:` begins a file that ships."""
    sha: str = ""
    """Hash of the file's bytes; of lm-eval's own task the commits of its data sets, where they can be known."""
    note: str = field(default="", compare=False)
    """What is to be said of its file (`data/task_files.py`)."""

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
    datasets = {one["dataset_path"] for one in settings_of(name) if isinstance(one.get("dataset_path"), str)}
    commits = {dataset: commit_of(dataset) for dataset in sorted(datasets)}
    told = [f"{dataset}@{commit}" for dataset, commit in commits.items() if commit]
    return TaskSource(name, sha=" ".join(told))


def _refuse_foreign_code(name: str) -> None:
    """Refuse a task, or a group or tag with one in it, by lm-eval's settings: nothing of it is opened before."""
    for settings in settings_of(name):
        if why := foreign_code(settings):
            one = settings.get("task")
            told = f"'{one}' of '{name}'" if isinstance(one, str) and one != name else f"'{name}'"
            raise InputError(f"task {told}: {why}, and such code is never run: leave it out")


@lru_cache(maxsize=64)
def settings_of(name: str) -> tuple[dict[str, Any], ...]:
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
    there: dict[str, Path] = {}
    for path in sorted(folder.glob("*.jsonl")):
        name = read_name(path.stem, f"tasks.files: '{folder}': the name of a file")
        if name in there:
            raise InputError(f"tasks.files: '{folder}' holds two files {name}.jsonl in other spellings: rename one")
        there[name] = path
    if not there:
        raise InputError(f"tasks.files: '{folder}' holds no file *.jsonl, one task each")
    found = []
    for name in list(there) if names is None else map(canonical, names):
        if (asked := there.get(name) or there.get(FILE_NAMES.get(name, name))) is None:
            raise InputError(f"tasks: '{folder}' has no file {name}.jsonl{_nearest(name, list(there))}")
        file = f"{_SHIPPED}{asked.name}" if files == ATLAS else str(asked)
        found.append(TaskSource(name, file, hashlib.sha256(asked.read_bytes()).hexdigest(), read_items(asked).note))
    return found


def task_notes(sources: Sequence[TaskSource]) -> str:
    """What is to be said of the files of tasks, as a sentence without its end; empty where there is nothing."""
    return "; ".join(f"task {one.name}: {one.note}" for one in sources if one.note)


def _nearest(name: str, known: Sequence[str]) -> str:
    """What may have been meant; all there are where they are few and none is near."""
    if near := difflib.get_close_matches(name, known, n=3, cutoff=0.5):
        return f"; the nearest are {', '.join(near)}"
    return f"; there are {', '.join(sorted(known))}" if len(known) <= FEW else ""


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
    _know_filters()
    shape, items, _ = read_items(path)
    settings = json.loads(json.dumps(dict(shape.settings)))  # lm-eval writes into what it is given
    return ConfigurableTask(
        config={"task": name, "custom_dataset": lambda **_: {"test": _rows(shape, items)}, "test_split": "test"}
        | settings
    )


def _rows(shape: Shape, items: list[dict[str, Any]]) -> "Dataset":
    """The items as lm-eval holds them, by their types as read: from a file, a date would be taken for a time."""
    from datasets import Dataset, Features, Value

    kinds = {"text": Value("string"), "texts": [Value("string")], "names": [Value("string")]}
    return Dataset.from_list(
        items, Features({name: kinds.get(kind, Value("int64")) for name, kind in shape.fields.items()})
    )


@cache
def _know_filters() -> None:
    """Make known to lm-eval the filter by which what is said is compared as names are."""
    from lm_eval.api.filter import Filter
    from lm_eval.api.registry import register_filter

    @register_filter(NAMES)
    class Canonical(Filter):
        """Unicode's composed form, white space folded and stripped."""

        def apply(self, resps: Any, docs: Any) -> Any:
            """Every response of every item so."""
            return [[canonical(one) for one in mine] for mine in resps]


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
