"""The audit tells what was found, and what was not looked at; no answer is never a clean one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLEAN = {"name": "clean", "version": "1.0", "vulns": []}
SKIPPED = {"name": "local", "skip_reason": "Dependency not found and could not be audited: local (1.0+cpu)"}
ADVISORY = {"id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2026-1"], "fix_versions": ["1.2", "2.0"]}
HARMED = {"name": "harmed", "version": "1.1", "vulns": [ADVISORY]}


@pytest.fixture
def audited(tmp_path):
    """The audit of what a stand-in for pip-audit prints: exit code, what was said and how often it was asked."""

    def audit(printed: str) -> tuple[int, list[str], int]:
        stand_in, count = tmp_path / "pip-audit", tmp_path / "asked"
        (tmp_path / "printed").write_text(printed)
        stand_in.write_text(f"#!/bin/sh\necho once >> {count}\necho 'a long trace\nno network' >&2\n")
        with stand_in.open("a") as script:
            script.write(f"cat {tmp_path / 'printed'}\n")
        stand_in.chmod(0o755)
        command = [sys.executable, ROOT / ".ci" / "audit.py", stand_in, "0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).splitlines(), len(count.read_text().split())

    return audit


def report(*packages) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_an_advisory_fails_and_is_told_in_a_line(audited):
    code, said, _ = audited(report(CLEAN, HARMED))
    assert code == 1
    assert said == [
        "audit: 2 packages asked about, 2 audited, 0 could not be",
        "audit: VULNERABLE: harmed 1.1: GHSA-aaaa-bbbb-cccc, CVE-2026-1; fixed in 1.2, 2.0",
    ]


def test_an_advisory_that_no_version_mends_is_told_too(audited):
    code, said, _ = audited(report({**HARMED, "vulns": [{**ADVISORY, "fix_versions": []}]}))
    assert code == 1
    assert said[-1].endswith("no version mends it yet")


def test_what_could_not_be_audited_is_counted_and_named_while_few(audited):
    code, said, asked = audited(report(CLEAN, SKIPPED))
    assert (code, asked) == (0, 1)
    assert said == [
        "audit: 2 packages asked about, 1 audited, 1 could not be",
        "audit: not audited: local (Dependency not found and could not be audited)",
    ]


def test_an_index_without_advisories_is_not_a_clean_audit(audited):
    code, said, _ = audited(report(*[SKIPPED] * 200))
    assert code == 0
    assert said[0] == "audit: 200 packages asked about, 0 audited, 200 could not be"
    assert len(said) == 2


@pytest.mark.parametrize("printed", ["", "no JSON", '{"dependencies": []}', "[1]", '{"dependencies": '])
def test_no_answer_fails_in_one_line_after_three_more_tries(audited, printed):
    code, said, asked = audited(printed)
    assert (code, asked, len(said)) == (2, 4, 1)
    assert "no answer" in said[0]
