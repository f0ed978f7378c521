"""The audit tells what was learned, how, and what counts; no answer, and nothing learned, is never a clean one."""

import importlib.metadata
import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ADVISORY = {"id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2026-1"], "fix_versions": ["1.2", "2.0"]}
TOLD_OF_LATEST = {"id": "GHSA-dddd-eeee-ffff", "aliases": ["CVE-2026-2"], "fixed_in": [], "withdrawn": None}
ACCEPTED = {"id": "PYSEC-1", "aliases": ["CVE-2024-35515"], "fixed_in": [], "withdrawn": None}
"""The one that is accepted, of sqlitedict."""


def held(name: str) -> str:
    return importlib.metadata.version(name)


def by_release(name, *advisories):
    """pip-audit's words where the index has the release's page."""
    return {"name": name, "version": held(name), "vulns": list(advisories)}


def skipped(name):
    """pip-audit's words where the index has no such page."""
    return {"name": name, "skip_reason": f"Dependency not found and could not be audited: {name} ({held(name)})"}


def project(name, *advisories, latest=None, yanked=False):
    """The index's page of a project."""
    releases = {held(name): [{"yanked": yanked}]}
    return {"info": {"version": latest or held(name)}, "releases": releases, "vulnerabilities": list(advisories)}


@pytest.fixture
def index(tmp_path):
    """The address of an index that serves the folder `index`, and 404 for what is not there."""
    (tmp_path / "index").mkdir()
    serve = partial(SimpleHTTPRequestHandler, directory=tmp_path / "index")
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def audited(index, tmp_path):
    """The audit under stand-ins of pip-audit and the index: exit code, what was said, how often pip-audit was asked."""

    def audit(printed: str | list, pages: dict) -> tuple[int, list[str], int]:
        stand_in, count = tmp_path / "pip-audit", tmp_path / "asked"
        if not isinstance(printed, str):
            printed = json.dumps({"dependencies": printed, "fixes": []})
        (tmp_path / "printed").write_text(printed)
        stand_in.write_text(f"#!/bin/sh\necho once >> {count}\necho 'a long trace\nno network' >&2\n")
        with stand_in.open("a") as script:
            script.write(f"cat {tmp_path / 'printed'}\n")
        stand_in.chmod(0o755)
        for name, page in pages.items():
            (tmp_path / "index" / name).mkdir(parents=True)
            (tmp_path / "index" / name / "json").write_text(page if isinstance(page, str) else json.dumps(page))
        command = [sys.executable, ROOT / ".ci" / "audit.py", stand_in, "--pause", "0", "--index", index]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).splitlines(), len(count.read_text().split())

    return audit


HARMLESS = (skipped("sqlitedict"), {"sqlitedict": project("sqlitedict", ACCEPTED)})
"""What the accepted advisory needs to stay accepted."""


def test_an_advisory_of_a_release_fails_and_is_told_in_a_line(audited):
    told, pages = HARMLESS
    code, said, _ = audited(
        [told, by_release("pytest"), by_release("rich", ADVISORY)],
        pages | {name: project(name) for name in ("pytest", "rich")},
    )
    assert code == 1
    assert said[0] == (
        "audit: 3 packages: 2 by the page of their release, 1 by the page of their project, whose latest release they "
        "are, 0 only by what holds still against a newer release, 0 not at all"
    )
    assert said[1].startswith(f"audit: accepted: sqlitedict {held('sqlitedict')}: CVE-2024-35515, PYSEC-1; no version")
    assert said[2:] == [
        f"audit: VULNERABLE: rich {held('rich')}: CVE-2026-1, GHSA-aaaa-bbbb-cccc; fixed in 1.2, 2.0",
    ]


@pytest.mark.parametrize("latest", [None, "9999.0"])
def test_where_releases_have_no_page_their_project_tells(audited, latest):
    told, pages = HARMLESS
    page = project("rich", TOLD_OF_LATEST, latest=latest)
    code, said, _ = audited([told, skipped("rich")], pages | {"rich": page})
    assert code == 1
    assert said[-1] == (
        f"audit: VULNERABLE: rich {held('rich')}: CVE-2026-2, GHSA-dddd-eeee-ffff; no version mends it yet"
    )
    partly = f"audit: only by what holds still against a newer release: rich {held('rich')}"
    assert (partly in said) == (latest is not None)


def test_an_advisory_that_was_taken_back_is_none(audited):
    told, pages = HARMLESS
    page = project("rich", TOLD_OF_LATEST | {"withdrawn": "2026-01-01T00:00:00Z"})
    assert audited([told, skipped("rich")], pages | {"rich": page})[0] == 0


def test_a_withdrawn_release_fails(audited):
    told, pages = HARMLESS
    code, said, _ = audited([told, by_release("rich")], pages | {"rich": project("rich", yanked=True)})
    assert (code, said[-1]) == (1, f"audit: WITHDRAWN: rich {held('rich')}")


@pytest.mark.parametrize("packages", [["rich"], ["rich", "sqlitedict"]])
def test_an_acceptance_that_no_advisory_needs_fails(audited, packages):
    pages = {name: project(name) for name in packages}
    code, said, _ = audited([skipped(name) for name in packages], pages)
    assert (code, said[-1]) == (1, "audit: accepted-advisories.toml: delete CVE-2024-35515: no advisory needs it")


def test_what_has_no_page_is_named_and_nothing_learned_is_not_a_clean_audit(audited):
    code, said, _ = audited([skipped("rich"), skipped("sqlitedict")], {})
    assert code == 2
    assert said[1:] == [f"audit: not at all: rich {held('rich')}, sqlitedict {held('sqlitedict')}"]


@pytest.mark.parametrize("printed", ["", "no JSON", '{"dependencies": []}', "[1]", '{"dependencies": '])
def test_no_answer_of_pip_audit_fails_in_one_line_after_three_more_tries(audited, printed):
    code, said, asked = audited(printed, {})
    assert (code, asked, len(said)) == (2, 4, 1)
    assert "no answer" in said[0]


@pytest.mark.parametrize("page", ['{"info": ', "{}", "[]"])
def test_a_page_that_is_none_is_no_answer(audited, page):
    code, said, _ = audited([skipped("rich")], {"rich": page})
    assert (code, len(said)) == (2, 1)
