"""What the README says can be typed, and its script does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_script_in_the_readme_runs_from_any_folder(tmp_path):
    script = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert script is not None
    assert len(script.group(1).strip().splitlines()) <= 15
    (tmp_path / "mine.py").write_text(script.group(1))
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "magnitude-60% + prompt-8" in done.stdout


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_place_of_the_readme_exists():
    for place in re.findall(r"^    ((?:data|probes|analysis)/[\w./]*|app\.py)", README, re.MULTILINE):
        assert (ROOT / place).exists(), place
