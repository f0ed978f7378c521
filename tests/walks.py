"""Run what is walked in Chromium at length, and keep what came of it: `make walks`, no part of `make test`."""

import csv
import sys
from datetime import date
from pathlib import Path

import pytest

RESULTS = Path(__file__).with_name("walks.csv")
"""The last result, committed: a row for each walk."""


class Kept:
    """Hears what came of each walk."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep its call, or whatever else failed; the seconds are of what is reported."""
        if report.when == "call" or not report.passed:
            name = report.nodeid.removeprefix("tests/")
            seconds, on = round(report.duration), date.today().isoformat()
            self.rows.append({"walk": name, "outcome": report.outcome, "seconds": seconds, "on": on})


def main() -> int:
    """Walk, and write the results where all were walked."""
    kept = Kept()
    code = pytest.main(["-m", "walk", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[kept])
    if kept.rows and not sys.argv[1:]:
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(kept.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept.rows)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
