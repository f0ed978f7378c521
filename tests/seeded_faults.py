"""Put one fault at a time into a copy of the code and see whether the tests that should catch it do.

`python -m tests.seeded_faults` tries every fault of `faults.yaml`, `--only WORD` those whose name or file holds a word.
What came of the last try of each is in `faults_tried.csv`. No part of `make test`: it takes about 20 minutes.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Literal

import yaml

ROOT = Path(__file__).parent.parent
FAULTS, TRIED = ROOT / "tests" / "faults.yaml", ROOT / "tests" / "faults_tried.csv"
LEFT_OUT = (".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", "runs", "shared")
LONGEST = 600
"""Seconds that the tests of one fault may take."""
Found = Literal["caught", "missed", "stale", "broken"]
"""`stale`: the text is not in the file, or more than once; `broken`: the tests did not run to a result."""


@dataclass(frozen=True)
class Fault:
    """One line of the code made wrong."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Tried:
    """What came of it."""

    fault: str
    file: str
    found: Found
    by: str
    """The test that failed."""
    seconds: int
    on: str


def faults(path: Path = FAULTS) -> list[Fault]:
    """The faults of the list."""
    return [Fault(**one | {"tests": tuple(one["tests"])}) for one in yaml.safe_load(path.read_text())]


def seeded(text: str, fault: Fault) -> str | None:
    """The file's text with the fault in it; None where what it replaces does not stand there exactly once."""
    return text.replace(fault.old, fault.new) if text.count(fault.old) == 1 and fault.old != fault.new else None


def attempt(fault: Fault, tree: Path) -> tuple[Found, str]:
    """Run the tests of one fault on a copy of the code, and the test that failed first."""
    file = tree / fault.file
    whole = file.read_text() if file.is_file() else ""
    harmed = seeded(whole, fault)
    if harmed is None:
        return "stale", ""
    file.write_text(harmed)
    try:
        code, failed = run_tests(tree, "-x", *fault.tests)
    except subprocess.TimeoutExpired:
        return "broken", f"no result in {LONGEST} s"
    finally:
        file.write_text(whole)
    if code == 0:
        return "missed", ""
    if code != 1 or not failed:
        return "broken", f"pytest ended with {code}"
    return "caught", failed[0]


def run_tests(tree: Path, *asked: str) -> tuple[int, list[str]]:
    """The exit code of pytest, and the tests that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *asked]
    # Bytecode is told from its source by size and second: a fault may keep both.
    apart = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=apart, capture_output=True, text=True, timeout=LONGEST, check=False)
    failed = [line.removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    return done.returncode, [line.split(" - ")[0] for line in failed]


def proven(tried: list[Tried], tree: Path) -> list[Tried]:
    """Results again, none of them caught by a test that fails without the fault too."""
    caught = sorted({one.by for one in tried if one.found == "caught"})
    always = run_tests(tree, *caught)[1] if caught else []
    return [
        replace(one, found="broken", by=f"{one.by} fails without the fault") if one.by in always else one
        for one in tried
    ]


def read(path: Path = TRIED) -> dict[str, dict[str, str]]:
    """The table of results, by fault."""
    return {one["fault"]: one for one in csv.DictReader(path.open())} if path.is_file() else {}


def write(tried: list[Tried], path: Path = TRIED) -> None:
    """Put results into the table, each over what was known of its fault before."""
    known = read(path)
    known |= {one.fault: {name: str(value) for name, value in asdict(one).items()} for one in tried}
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Tried)], lineterminator="\n")
        table.writeheader()
        table.writerows(known[fault.name] for fault in faults() if fault.name in known)


def main() -> int:
    """Try faults; 0 where every one was caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word of the fault's name or file")
    parser.add_argument("--missing", action="store_true", help="those alone that were not caught at the last try")
    parser.add_argument("--share", default="0/1", help="I/N: every N-th fault from the I-th on, to run N at once")
    asked = parser.parse_args()
    place, count = map(int, asked.share.split("/"))
    done = {name for name, last in read().items() if asked.missing and last["found"] == "caught"}
    chosen = [one for one in faults() if asked.only in f"{one.name} {one.file}" and one.name not in done][place::count]
    tried: list[Tried] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for fault in chosen:
            begun = time.monotonic()
            found, by = attempt(fault, tree)
            seconds = round(time.monotonic() - begun)
            print(f"{found}: {fault.name} ({fault.file}, {seconds} s) {by}", flush=True)
            tried.append(Tried(fault.name, fault.file, found, by, seconds, date.today().isoformat()))
            write(tried[-1:])
        tried = proven(tried, tree)
        write(tried)
    caught = sum(one.found == "caught" for one in tried)
    print(f"{caught} of {len(tried)} caught")
    return int(caught < len(tried))


if __name__ == "__main__":
    sys.exit(main())
