"""What survives kill -9: a study is killed at random moments, begun again, and compared with one left alone.

`kills`: a small study, once a trial. The driver or one of its workers is killed at a moment drawn evenly from the time
that the study takes when nothing happens to it. A killed worker's run goes on by itself; a killed driver's is started
once more. Every file of the run's folder then has to hold the bytes of the run left alone: all tables, verdict, report
and examples, but for the timings and the manifest that tells their checksum.

`demo_kills`: the demo study, killed again and again within one run, at moments drawn evenly from its time. After each,
every cell that is finished has to hold the bytes of the run left alone, and so at the end has the run's folder.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import psutil
from rich.progress import track

from analysis.code_keys import ROOT
from analysis.run_files import MANIFEST
from analysis.store import CELL, checksums
from analysis.study import load_study
from analysis.worker import COST
from benchmarks.measure import Ratio
from data.errors import InputError

TRIALS = 20
STUDY: dict[str, Any] = {
    "name": "killed",
    "model": "atlas",
    "facts": "atlas",
    "relations": ["instrument"],
    "groups": ["open"],
    "text": "atlas",
    "compressions": [{"method": "magnitude", "sparsity": 0.6, "samples": 4, "block_length": 32}],
    "seeds": [0],
    "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.03}],
    "reported": ["prompt-2"],
    "tuning": {"steps": 3, "batch": 4},
    "drift": {"questions": 4, "windows": 2, "length": 16, "batch": 2},
}
_RUN = """
import sys
from pathlib import Path
from analysis.run import run
from analysis.study import Study

if __name__ == "__main__":
    def computed(cell, seconds):
        if seconds:
            print("computed", cell.key, file=sys.stderr, flush=True)
    study, out, engine = Study.model_validate_json(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    print(run(study, out=out, engine=engine, on_cell=computed, on_note=lambda one: print(one, file=sys.stderr)))
"""
UNEQUAL = (MANIFEST, "timings.parquet")
Target = Literal["driver", "worker"]


@dataclass
class Driver:
    """A study run in a process of its own, which can be killed."""

    study: dict[str, Any]
    out: Path
    engine: str = "local"

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = (self.out.parent / f"{self.out.name}.log").open("ab")
        told = [sys.executable, "-c", _RUN, json.dumps(self.study), str(self.out), self.engine]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            told, stdout=subprocess.PIPE, stderr=self.log, text=True, env=os.environ | {"PYTHONPATH": path}, cwd=ROOT
        )

    def finish(self) -> Path:
        """Wait for the run's folder.

        Raises:
            InputError: the run failed.
        """
        said, _ = self.process.communicate()
        self.log.close()
        if self.process.returncode != 0:
            raise InputError(f"the run ended with {self.process.returncode}: see '{self.log.name}'")
        return Path(said.splitlines()[-1])

    def computed(self) -> list[str]:
        """Keys of the cells that the drivers on this folder said they had computed."""
        lines = Path(self.log.name).read_text(errors="replace").splitlines()
        return [line.split()[1] for line in lines if line.startswith("computed ")]

    def await_cells(self, count: int) -> None:
        """Wait until this many cells are finished, or the run has ended."""
        while self.process.poll() is None and sum(1 for _ in (self.out).glob("cells/*/cell.json")) < count:
            time.sleep(0.05)

    def kill(self, target: Target) -> bool:
        """Kill the driver, or one of its workers if there is one; tells whether there was something to kill."""
        if self.process.poll() is not None:
            return False
        if target == "driver":
            self.process.kill()
            self.process.wait()
            self.log.close()
            return True
        workers = [one for one in psutil.Process(self.process.pid).children(recursive=True) if _is_worker(one)]
        if not workers:
            return False
        workers[-1].kill()
        return True


def _is_worker(process: psutil.Process) -> bool:
    """Whether a process computes cells, for either engine."""
    try:
        told = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "spawn_main" in told or told.startswith("ray::attempt")


def numbers_of(run: Path) -> dict[str, str]:
    """Checksum of every file of a run's folder that may not differ between runs."""
    return {name: sha for name, sha in checksums(run).items() if name not in UNEQUAL}


def trial(study: dict[str, Any], out: Path, engine: str, target: Target, after: float) -> Path:
    """Start a study, kill something after so many seconds, and bring it to its end."""
    driver = Driver(study, out, engine)
    time.sleep(after)
    if driver.kill(target) and target == "driver":
        driver = Driver(study, out, engine)
    return driver.finish()


def kill_counts(rounds: int) -> dict[str, Ratio]:
    """How many of the killed runs ended unlike the one left alone, for each engine; four trials a round."""
    found = {}
    draw = random.Random(0)
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        alone = numbers_of(Driver(STUDY, Path(folder) / "alone").finish())
        seconds = {"local": time.perf_counter() - started}
        for engine in ("local", "ray"):
            if engine not in seconds:
                started = time.perf_counter()
                same = numbers_of(Driver(STUDY, Path(folder) / engine, engine).finish()) == alone
                seconds[engine] = time.perf_counter() - started
                found["engine/ray/unlike local, of 1"] = Ratio(float(not same), 0.0, "runs", "the local engine")
            bad = 0
            trials = 4 * rounds
            for place in track(range(trials), description=f"kills, {engine}"):
                target: Target = "driver" if place % 2 == 0 else "worker"
                run = trial(STUDY, Path(folder) / f"{engine}-{place}", engine, target, draw.uniform(0, seconds[engine]))
                bad += numbers_of(run) != alone
            found[f"kills/{engine}/unlike, of {trials}"] = Ratio(float(bad), 0.0, "runs", "a run left alone")
    return found


def demo_kill_counts(rounds: int) -> dict[str, Ratio]:
    """Of so many kills (four a round) within one run of the demo on each engine, those after which anything differs."""
    study = load_study("atlas").model_dump(mode="json")
    draw = random.Random(1)
    found = {}
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        alone = Driver(study, Path(folder) / "alone").finish()
        seconds = time.perf_counter() - started
        for engine in ("local", "ray"):
            moments = sorted(draw.uniform(0, seconds) for _ in range(4 * rounds))
            out = Path(folder) / engine
            run, kills, bad = killed_often(study, out, engine, moments, cells_of(Path(folder) / "alone"))
            same = numbers_of(run) == numbers_of(alone)
            found[f"demo kills/{engine}/cells unlike, of {kills} times"] = Ratio(float(bad), 0.0, "kills", "left alone")
            found[f"demo kills/{engine}/run unlike, after all"] = Ratio(float(not same), 0.0, "runs", "left alone")
    return found


def killed_often(
    study: dict[str, Any], out: Path, engine: str, moments: Sequence[float], expected: Mapping[str, str]
) -> tuple[Path, int, int]:
    """Run a study through kills at these moments of its time, driver and worker in turn; start-ups do not count.

    Gives the run's folder, how many kills there were, and after how many of them a finished cell was not as expected.
    """
    driver, kills, bad = Driver(study, out, engine), 0, 0
    steps = [later - sooner for sooner, later in zip((0.0, *moments), moments, strict=False)]
    for place, step in enumerate(track(steps, description=f"the demo killed, {engine}")):
        driver.await_cells(sum(1 for _ in out.glob(f"cells/*/{CELL}")) + 1)  # it has begun again
        time.sleep(step)
        if driver.process.poll() is not None:
            break  # it ended before its time
        target: Target = "driver" if place % 2 == 0 else "worker"
        if not driver.kill(target):
            continue
        kills += 1
        bad += any(expected.get(name) != sha for name, sha in cells_of(out).items())
        if target == "driver":
            driver = Driver(study, out, engine)
    return driver.finish(), kills, bad


def cells_of(out: Path) -> dict[str, str]:
    """Checksum of every file of every finished cell, by its path, but for what it cost."""
    finished = [path.parent for path in out.glob(f"cells/*/{CELL}")]
    files = {f"{cell.name}/{name}": sha for cell in finished for name, sha in checksums(cell).items()}
    return {name: sha for name, sha in files.items() if not name.endswith(f"/{COST}")}
