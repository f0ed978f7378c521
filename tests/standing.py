"""Studies of the tests on workers that stay, in one folder: nothing is imported twice, no cell computed twice."""

from pathlib import Path
from typing import Any

import pytest

from analysis import run
from analysis.allowance import cores
from analysis.pool import LocalEngine
from analysis.study import Study


class StandingEngine(LocalEngine):
    """The local engine, whose workers wait for the next study: starting two takes a third of a small study's time."""

    def __enter__(self) -> "StandingEngine":
        return self if self.slots else super().__enter__()

    def __exit__(self, *error: object) -> None:
        """Leave the workers where they are; what ended early may have left one of them at work."""
        if any(error):
            self.close()

    def close(self) -> None:
        """End the workers."""
        super().__exit__()


class Studies:
    """Runs small studies in one folder, where a cell of several of them is computed once, as it is for a user."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.engine = StandingEngine(cores(), 1)

    def run(self, study: Study, out: Path | None = None, **told: Any) -> Path:
        """Run a study, elsewhere if told so, and return its folder."""
        with pytest.MonkeyPatch.context() as patch:
            self.stand_in(patch)
            return run.run(study, out=out or self.out, **told)

    def stand_in(self, patch: pytest.MonkeyPatch) -> None:
        """Let every run be computed by these workers."""
        patch.setattr(run, "open_engine", lambda *_, **__: self.engine)
