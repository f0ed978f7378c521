"""Read a finished run with no model library in the process: what the pages, the figures and the report lean on.

A run is a folder directly below the runs root that holds a `manifest.json`; nothing outside the root is ever opened.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from pyarrow import ArrowException
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from analysis.run_files import EXAMPLES, MANIFEST, read_json, read_manifest, require_whole, unsealed_text
from analysis.schema import costs
from analysis.schema.registry import TABLES
from analysis.schema.table import TableError
from analysis.schema.verdict import VERDICT, verdict_fault
from analysis.scopes import MAIN
from data.errors import InputError
from data.paths import path_fault, shown

LATENCY = "latency.csv"
"""Beside the tables where repairs were timed (`analysis/latency.py`): times are no result, and differ every time."""
MERGED = "merged"
"""The form in which latency times LoRA inside the weights."""
CALIBRATION = Path(__file__).parent.parent / "data" / "calibration"
"""The committed table of the pipeline where the truth is known; of the product, not of a run."""
GROUP_NOTE = {
    "open": "known by construction",
    "graded": "stated 1 to 64 times in training",
    "locked": "displaced by construction: answers only behind a key",
    "never": "absent from training: nothing to recover",
    "facts": "real-world facts",
}


@dataclass(frozen=True)
class Calibration:
    """What the whole pipeline said of independent models of known truth (`analysis/calibration_table.py` writes it)."""

    summary: pd.DataFrame
    organisms: pd.DataFrame
    sentences: list[str]
    """Each target, met or missed, then power and coverage without a target."""


def read_calibration(folder: Path = CALIBRATION) -> Calibration:
    """The committed calibration.

    Raises:
        InputError: it is not there or cannot be read.
    """
    try:
        summary, organisms = (pd.read_csv(folder / f"{name}.csv") for name in ("summary", "organisms"))
        return Calibration(summary, organisms, json.loads((folder / "recipe.json").read_text())["targets"])
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError(
            f"data/calibration cannot be read ({type(error).__name__}): `make calibrate` writes it"
        ) from None


def list_runs(root: Path) -> list[str]:
    """Names of the finished runs directly below the root, newest first; links that leave it are not listed.

    Raises:
        InputError: the root cannot be looked into.
    """
    if fault := path_fault(str(root)):
        raise InputError(f"runs folder '{shown(root)}': {fault}")
    try:
        folders = list(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise InputError(f"runs folder '{root}' cannot be looked into ({error.strerror}): name another") from None
    found = {folder.name: when for folder in folders if (when := _finished(root, folder)) is not None}
    return sorted(found, key=lambda name: (-found[name], name))


def run_below(root: Path, name: str) -> Path:
    """The folder of a run by its name alone.

    Raises:
        InputError: the name is a path, leads out of the root, is none that a folder can have, or is no finished run.
    """
    folder = root / name
    if fault := path_fault(str(folder / MANIFEST)):
        raise InputError(f"run '{shown(name)}': {fault}")
    if name != Path(name).name or "\x00" in name or _finished(root, folder) is None:
        raise InputError(f"run '{shown(name)}': no finished run of that name directly below '{root}'")
    return folder


def _finished(root: Path, folder: Path) -> float | None:
    """When a finished run was written that lies, links followed, directly below the root and may be looked into."""
    try:
        manifest = (folder / MANIFEST).resolve()
        inside = manifest.is_file() and manifest.parent.parent == root.resolve()
        return manifest.stat().st_mtime if inside else None
    except (PermissionError, FileNotFoundError, RuntimeError):  # another user's, gone meanwhile, or a ring of links
        return None


def stamp(run: Path) -> str:
    """What changes whenever a run is written anew: the manifest's contents and time, for use as a cache key."""
    path = run / MANIFEST
    return f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}-{path.stat().st_mtime_ns}"


def read_table(
    run: Path, name: str, columns: list[str] | None = None, variant_ids: Collection[str] | None = None
) -> pd.DataFrame:
    """One table of a finished run, or these columns of it, or the rows of these variants alone.

    Raises:
        InputError: it is missing or damaged, or a column is missing or of another type than declared.
    """
    table = TABLES.of(name)
    path = run / table.file
    if not path.exists():
        raise InputError(f"run '{run.name}': it has no table '{name}': run its study again with what fills that table")
    require_whole(run, path.name)
    try:
        return table.read(path, columns or (), variant_ids)
    except TableError as error:
        raise InputError(f"run '{run.name}': {error}: run the study again") from None
    except (OSError, ArrowException) as error:
        raise InputError(
            f"run '{run.name}': table '{path.name}' cannot be read ({type(error).__name__}): run the study again"
        ) from None


def read_verdict(run: Path) -> dict[str, Any]:
    """What a finished run's evidence licenses.

    Raises:
        InputError: `verdict.json` is missing, damaged, or not of its form.
    """
    verdict = read_json(run, VERDICT)
    if fault := verdict_fault(verdict):
        raise InputError(f"run '{run.name}': '{VERDICT}': {fault}: run the study again")
    return verdict


def read_latency(run: Path) -> pd.DataFrame | None:
    """What a run's repairs cost in time, or None where nothing was timed.

    Raises:
        InputError: the file is no such table.
    """
    path = run / LATENCY
    if not path.is_file():
        return None
    anew = f"`python -m analysis repairs {run.name} --latency` makes it anew"
    try:
        text = unsealed_text(path.read_text(encoding="utf-8"))
        types = {column.name: column.dtype for column in costs.LATENCY.columns}
        return costs.LATENCY.frame(pd.read_csv(StringIO(text), keep_default_na=False, dtype=types))
    except TableError as error:
        raise InputError(f"run '{run.name}': {LATENCY}: {error}: {anew}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"run '{run.name}': {LATENCY} cannot be read ({type(error).__name__}): {anew}") from None


@dataclass(frozen=True)
class Shown:
    """One question under one variant, token by token: the prompt's (P1 to Pn), then the content's."""

    tokens: tuple[str, ...]
    prompt: int
    """How many of the tokens are the prompt's."""
    attention: Float[np.ndarray, "layer head query key"]
    lens_top: Shaped[np.ndarray, "layer token"]
    """The token that each layer's lens puts first."""
    lens_top_log_prob: Float[np.ndarray, "layer token"]
    lens_log_prob: Float[np.ndarray, "layer token"]
    """Of the right answer's first token, in nats."""
    lens_rank: Int[np.ndarray, "layer token"]


@dataclass(frozen=True)
class Example:
    """One question under every variant that shows it, by identity."""

    item: str
    group: str
    question: str
    answer: str
    why: str
    variants: dict[str, Shown]


def read_example(run: Path, file: str) -> Example:
    """One example of a finished run, by its file's name in the table `examples`.

    Raises:
        InputError: the name leads out of the run's folder of examples, or the file is missing or damaged.
    """
    home = (run / EXAMPLES).resolve()
    path = home / file
    named = file == Path(file).name and "\x00" not in file and path_fault(str(path)) is None
    if not named or path.resolve().parent != home or home.parent != run.resolve() or not path.is_file():
        said = shown(file.replace("\x00", "?"))
        raise InputError(f"run '{run.name}': there is no example '{said}'; the table examples names them")
    require_whole(run, f"{EXAMPLES}/{file}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = [one.name for one in fields(Shown) if one.name not in ("tokens", "prompt")]
            variants = {
                str(identity): Shown(
                    tokens=tuple(stored[f"{place}.tokens"].tolist()),
                    prompt=int(stored[f"{place}.prompt"]),
                    **{name: stored[f"{place}.{name}"] for name in names},
                )
                for place, identity in enumerate(stored["variant_ids"])
            }
            about = {name: str(stored[name]) for name in ("item", "group", "question", "answer", "why")}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(
            f"run '{run.name}': example '{file}' cannot be read ({type(error).__name__}): run the study again"
        ) from None
    return Example(**about, variants=variants)


def compact(value: float, lower: float, upper: float) -> str:
    """A figure with its interval in the fewest characters: `.71 [.66, .76]`."""

    def bare(number: float) -> str:
        # Adding zero turns a rounded -0.0 into 0.0.
        text = f"{round(float(number), 2) + 0.0:.2f}"  # numpy rounds .075 the other way
        return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text

    return f"{bare(value)} [{bare(lower)}, {bare(upper)}]"


def p_words(p: float) -> str:
    """A p as it is written: to a thousandth, and never as nothing."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def recovery_rows(recovery: pd.DataFrame, scope: str, group: str, reading: str) -> pd.DataFrame:
    """One row per variant with its four figures as text, in the order in which they were made."""
    part = recovery[(recovery["scope"] == scope) & (recovery["group"] == group) & (recovery["reading"] == reading)]
    shown = part.assign(figure=[compact(*row) for row in part[["value", "lower", "upper"]].itertuples(index=False)])
    shown = shown.assign(column=shown["measure"] + ", " + shown["split"])
    order = list(dict.fromkeys(shown["variant"]))
    wide = shown[shown["split"] != "calibrate"].pivot(index="variant", columns="column", values="figure").loc[order]
    added = part.drop_duplicates("variant").set_index("variant")[["parameters_added", "replicates"]]
    columns = [f"{measure}, {split}" for measure in ("accuracy", "bits") for split in ("tune", "test")]
    return wide.reindex(columns=columns).join(added)


def chances_of(answers: pd.DataFrame, split: str = "test") -> dict[str, float]:
    """Accuracy of a uniform guess among the candidates by group, a mean over the group's items.

    The lists are read off the answers themselves: answers that were ever given for one another stand in one list.
    The full vocabulary has no such list.
    """
    asked = answers[answers["reading"] == "candidates"]
    items = asked.loc[asked["split"] == split, ["group", "item", "relation", "answer"]].drop_duplicates()
    asked = asked[["relation", "answer", "predicted"]].drop_duplicates()  # half a million answers give few pairs
    words = pd.Index(pd.unique(pd.concat([_word(asked, "answer"), _word(asked, "predicted")])))
    links = (words.get_indexer(_word(asked, "answer")), words.get_indexer(_word(asked, "predicted")))
    graph = coo_array((np.ones(len(asked)), links), shape=(len(words), len(words)))
    _, lists = connected_components(graph, directed=False)
    guessed = 1 / np.bincount(lists)[lists[words.get_indexer(_word(items, "answer"))]]
    means = pd.Series(guessed, index=items.index).groupby(items["group"]).mean()
    return {str(group): float(mean) for group, mean in means.items()}


def _word(answers: pd.DataFrame, column: str) -> pd.Series:
    """A word marked with its relation: the same word may answer two."""
    return answers["relation"] + "\t" + answers[column]


def place_of(setting: dict[str, Any]) -> str:
    """A setting's name as read aloud, a control by its group."""
    start = setting["compression"] if setting["scope"] == MAIN else f"{setting['scope']} ({setting['compression']})"
    return f"{start} + {setting['repair']}"


def sentence_of(setting: dict[str, Any]) -> str:
    """What a setting's evidence licenses, in one plain sentence."""

    def bits(name: str) -> str:
        found = setting[f"{name}_bits"]
        return (
            compact(found["estimate"], found["lower"], found["upper"]) + " bits per fact" if found else "not measured"
        )

    worst = max((one["p_corrected"] for one in setting["predictions"]), default=1.0)
    reasons = "; ".join(setting["reasons"]) or "the evidence points neither way"
    said = {
        "displaced": f"knowledge came back for subjects the repair never saw, {bits('redirected')} beyond every "
        f"comparison (p {p_words(worst)} after Holm): it had been out of reach, not gone",
        "relearned": f"the repair helped only the subjects it was tuned on ({bits('relearned')} more than others): "
        "it taught them anew and brought nothing else back",
        "re-injected": "the repair was computed from the dense model, so what came back may have come from there",
        "unreached": f"the repair brought nothing back ({bits('redirected')}), though it did where knowledge is known "
        "to be displaced: it may still be there, out of this repair's reach",
        "undecided": f"the evidence does not decide: {reasons}",
    }
    return said.get(setting["decision"], reasons)


__all__ = [
    "EXAMPLES",
    "GROUP_NOTE",
    "MANIFEST",
    "Example",
    "Shown",
    "chances_of",
    "compact",
    "list_runs",
    "p_words",
    "place_of",
    "read_example",
    "read_json",
    "read_manifest",
    "read_table",
    "read_verdict",
    "recovery_rows",
    "run_below",
    "sentence_of",
    "stamp",
]
