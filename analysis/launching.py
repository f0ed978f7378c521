"""Start a study as a process of its own and follow it: it goes on when the page, the browser or the app is closed.

Everything about a start lies in a folder of its own below `RUNS/.launched`: the study, the process and its log. No
model library is loaded here: what checks and computes is `python -m analysis run`.
"""

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml

from analysis.processes import began, machine
from analysis.progress import Step, last_step
from analysis.resolution import Resolution
from analysis.store import open_root, telling_storage, write_atomically
from analysis.study import LONGEST, NAMED
from data.errors import InputError
from data.paths import shown
from data.user_yaml import read_yaml

ROOT = Path(__file__).parent.parent
FOLDER = ".launched"
STUDY, PROCESS, LOG, LOCK = "study.yaml", "process.json", "log.txt", "lock"
PATIENCE = 8.0
"""Seconds in which an interrupted run may clear up before it is killed."""
ESTIMATING = 600
"""Seconds that a dry run may take."""
PIDS = range(2, 2**22 + 1)
"""The numbers that Linux gives to processes, but for the first: a signal to its group would reach everybody."""
State = Literal["running", "finished", "failed", "stopped", "unreadable"]


@dataclass(frozen=True)
class Launched:
    """One study that was started from a page, and how it is now."""

    folder: Path
    state: State
    step: Step | None
    """How far it was when it said so last."""
    says: str
    """Where it failed or cannot be read, why; where it finished, the name of its run."""
    started: float
    """Seconds since the epoch."""
    silent: float
    """Seconds since it said something last."""

    @property
    def name(self) -> str:
        """The study's name with some digits of its contents."""
        return self.folder.name

    @property
    def study(self) -> str:
        """The study as YAML."""
        return _text(self.folder / STUDY)

    @property
    def log(self) -> str:
        """Everything that the run has said."""
        return _text(self.folder / LOG)


def as_yaml(study: dict[str, Any]) -> str:
    """A study as it is written to its file: the keys in their order, one line for what is small."""
    return yaml.safe_dump(study, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def resolution_of(text: str, root: Path) -> Resolution:
    """Look at a study as a run would and say what it would take; nothing is written below `root`.

    Raises:
        InputError: what is wrong with it, in the words of the command line.
    """
    name = _name_of(text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.yaml")
        path.write_text(text, encoding="utf-8")
        command = [*command_of(path, root), "--dry-run", "--json"]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ESTIMATING, check=False)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"the estimate took more than {ESTIMATING // 60} minutes and was ended: take the YAML and ask in a "
                "terminal, `python -m analysis run STUDY.yaml --dry-run`"
            ) from None
        said, told = (one.replace(f"{folder}{os.sep}", "") for one in (done.stdout, done.stderr))
    if done.returncode:
        raise InputError(_reason(told) or f"the estimate ended with exit code {done.returncode} and no word")
    return Resolution.model_validate_json(said)


def launch(text: str, root: Path) -> Path:
    """Start a study, or go on with it where it was; gives the folder of the start.

    Raises:
        InputError: it is running already, it has no name that makes a folder, or `root` cannot be written to.
    """
    name = _name_of(text)
    folder = open_root(root) / FOLDER / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    with telling_storage(root):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if _process(folder) is not None:
                raise InputError(f"study '{name}' is running already, as it stands here: follow it below, or change it")
            write_atomically(folder / STUDY, text)
            _start(folder, root)
    return folder


def _start(folder: Path, root: Path) -> None:
    """Start the process of a study that is written down, and note it; one that cannot be noted is ended again."""
    with (folder / LOG).open("w") as log:
        started = subprocess.Popen(
            command_of((folder / STUDY).resolve(), root.resolve()),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the app's own end, or Ctrl-C in its terminal, does not reach it
        )
    try:
        write_atomically(folder / PROCESS, json.dumps(_birth(started.pid) | {"started": time.time()}))
    except BaseException:
        started.kill()  # nobody could follow or stop it, and it would be started a second time
        started.wait()
        raise


def resume(launched: Launched, root: Path) -> Path:
    """Go on with a study that was stopped or failed; what is finished is not computed again."""
    return launch(launched.study, root)


def stop(launched: Launched) -> None:
    """End a study's process and its workers; the cells that are finished stay.

    Raises:
        InputError: nothing can be written where it runs; it has ended, but is shown as failed.
    """
    folder = launched.folder
    with telling_storage(folder.parent.parent), _alone(folder):
        process = _process(folder)
        if process is None:
            return
        try:
            stored = json.loads(_text(folder / PROCESS))
            write_atomically(folder / PROCESS, json.dumps(stored | {"stopped": True}))
        finally:
            _end(folder, process)


def _end(folder: Path, process: int) -> None:
    """Interrupt a process group, so that it clears up what is half done, and kill what is left of it."""
    for ending in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process, ending)  # a started study leads a group of its own, workers included
        except ProcessLookupError:  # it ended by itself meanwhile
            return
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if _process(folder) is None:
                return
            time.sleep(0.1)


def list_launched(root: Path) -> list[Launched]:
    """Every study that was started from a page, newest first; one whose record is damaged says so in its place."""
    home = root / FOLDER
    folders = [one for one in home.iterdir() if (one / PROCESS).is_file()] if home.is_dir() else []
    return sorted(map(_look_if_readable, folders), key=lambda one: -one.started)


def _look_if_readable(folder: Path) -> Launched:
    try:
        return look_at(folder)
    except InputError as error:
        return Launched(folder, "unreadable", None, str(error), (folder / PROCESS).stat().st_mtime, 0.0)


def look_at(folder: Path) -> Launched:
    """How a started study is now.

    Raises:
        InputError: what is stored of it cannot be read.
    """
    running = _process(folder) is not None
    stored, log = _stored(folder), _text(folder / LOG)
    state: State
    if running:
        state, says = "running", ""
    elif found := re.search(r"tables, verdict and manifest in (.+)$", log, re.MULTILINE):
        state, says = "finished", Path(found.group(1)).name
    elif stored.get("stopped"):
        state, says = "stopped", ""
    else:
        state, says = "failed", _reason(log) or "its process ended without a word: see its log, or go on with it"
    silent = time.time() - (folder / LOG).stat().st_mtime if (folder / LOG).is_file() else 0.0
    return Launched(folder, state, last_step(log), says, float(stored["started"]), silent)


def command_of(study: Path, root: Path) -> list[str]:
    """The command that runs a study as a process of its own."""
    return [sys.executable, "-m", "analysis", "run", str(study), "--out", str(root)]


def _name_of(text: str) -> str:
    """What a study calls itself.

    Raises:
        InputError: it is no YAML of keys and values, or its name would not do for a folder.
    """
    study = read_yaml(text, "the study")
    name = study.get("name") if isinstance(study, dict) else None
    if not isinstance(name, str) or not re.fullmatch(NAMED, name):
        raise InputError("name: a study is called by letters, digits, dots, dashes and underscores, a letter first")
    if len(name) > LONGEST:
        raise InputError(f"name: '{shown(name)}' has {len(name)} letters, and a study's name has {LONGEST} at most")
    return name


def _reason(log: str) -> str:
    """The one line in which a run says what was wrong."""
    return next((line.removeprefix("error: ") for line in reversed(log.splitlines()) if line.startswith("error: ")), "")


def _birth(pid: int) -> dict[str, Any]:
    """What is noted of a process, so that no other one that is given its number later is taken for it."""
    return {"pid": pid, "machine": machine(), "began": began(pid), "born": psutil.Process(pid).create_time()}


def _process(folder: Path) -> int | None:
    """The number of a started study's process while it runs."""
    if not (folder / PROCESS).is_file():
        return None
    stored = _stored(folder)
    return stored["pid"] if _runs(stored) else None


def _runs(stored: dict[str, Any]) -> bool:
    """Whether the process that was noted still runs; another one with its number does not count."""
    if stored["machine"] and stored["began"]:
        return stored["machine"] == machine() and stored["began"] == began(stored["pid"])
    # A note of before, or not of Linux: the time of birth, which psutil moves along when the clock is set.
    try:
        process = psutil.Process(stored["pid"])
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - stored["born"]) < 1
    except psutil.NoSuchProcess:
        return False


def _stored(folder: Path) -> dict[str, Any]:
    """What was noted of a start.

    Raises:
        InputError: it cannot be read, or names no process that a study can have.
    """
    try:
        stored = json.loads(_text(folder / PROCESS))
        if type(stored["pid"]) is not int or stored["pid"] not in PIDS:
            raise ValueError
        return {"pid": stored["pid"], "born": float(stored["born"]), "started": float(stored["started"])} | {
            "machine": stored.get("machine"),
            "began": stored.get("began"),
            "stopped": bool(stored.get("stopped")),
        }
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError):
        raise InputError(f"'{folder / PROCESS}' cannot be read: remove that folder and start the study again") from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two windows that press a button at once are served one after the other."""
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
