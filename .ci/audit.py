"""Ask the package index what is known against everything that this Python holds, and say so in a few lines.

    python .ci/audit.py PIP_AUDIT

1. pip-audit asks for the advisories of each package's own release. It ends well where it learned nothing about any.
2. Some indexes have no page for a release, but one for its project, which tells the advisories of the latest release:
   all of them where that is the one held; where a newer one is out, those that hold still. The same page tells
   whether a release was withdrawn (PEP 592).
3. How much was learned is said first. An advisory counts unless accepted-advisories.toml has it, with the reason.

Ends with 0 where nothing counts, with 1 for advisories, withdrawn releases and acceptances that no advisory needs, with
2 where there was no answer or nothing was learned about any package.
"""

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from packaging.utils import canonicalize_name
from packaging.version import Version
from pip._internal.models.index import PyPI

Answer = TypeVar("Answer")
ACCEPTED = Path(__file__).parent / "accepted-advisories.toml"
TRIES = 4
PAUSE = 20.0
AT_ONCE = 8
PATIENCE = 60
LEARNED = {
    "release": "by the page of their release",
    "latest": "by the page of their project, whose latest release they are",
    "older": "only by what holds still against a newer release",
    "nothing": "not at all",
}


@dataclass(frozen=True)
class Advisory:
    """A known vulnerability: all its names, and the versions that mend it."""

    names: frozenset[str]
    fixed: tuple[str, ...]

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Advisory":
        """As pip-audit or an index words it."""
        fixed = told["fix_versions"] if "fix_versions" in told else told["fixed_in"]
        return cls(frozenset([told["id"], *told.get("aliases", [])]), tuple(fixed))

    def __str__(self) -> str:
        mended = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no version mends it yet"
        return f"{', '.join(sorted(self.names))}; {mended}"


@dataclass(frozen=True)
class Project:
    """What an index's page of a project tells."""

    latest: str
    withdrawn: frozenset[str]
    """Releases of which a file was."""
    still: frozenset[Advisory]
    """What holds against the latest release."""

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Project":
        """As the page words it."""
        withdrawn = [version for version, files in told["releases"].items() if any(file["yanked"] for file in files)]
        still = [Advisory.of(one) for one in told["vulnerabilities"] if not one["withdrawn"]]
        return cls(told["info"]["version"], frozenset(withdrawn), frozenset(still))


@dataclass(frozen=True)
class Audited:
    """What was learned about a package that is held."""

    name: str
    version: str
    learned: str
    """How: a key of LEARNED."""
    advisories: frozenset[Advisory]
    withdrawn: bool

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def insisting(ask: Callable[[], Answer], pause: float) -> Answer:
    """An answer, asked for again where none comes.

    Raises:
        RuntimeError: there was none however often it was asked.
    """
    said = ""
    for attempt in range(TRIES):
        time.sleep(pause if attempt else 0)
        try:
            return ask()
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = str(error)
    raise RuntimeError(f"no answer in {TRIES} tries: {said}")


def releases_told(pip_audit: str) -> dict[str, dict[str, Any]]:
    """What pip-audit says of each package.

    Raises:
        ValueError: it broke off, for want of a network say, or saw no package.
    """
    command = [pip_audit, "--path", sysconfig.get_paths()["purelib"], "--progress-spinner", "off"]
    done = subprocess.run([*command, "--format", "json", "--desc", "off"], capture_output=True, text=True)
    try:
        # Written at the end alone.
        packages = json.loads(done.stdout)["dependencies"]
        told: dict[str, dict[str, Any]] = {canonicalize_name(one["name"]): one for one in packages}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"pip-audit: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}") from None
    if not told:
        raise ValueError("pip-audit saw no packages")
    return told


def project_told(index: str, name: str) -> Project | None:
    """The index's page of a project; None where it has none.

    Raises:
        OSError: it was not reached.
        ValueError, KeyError, TypeError: what was got is no such page.
    """
    try:
        with urllib.request.urlopen(f"{index}/{name}/json", timeout=PATIENCE) as page:
            return Project.of(json.load(page))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def weigh(name: str, version: str, release: dict[str, Any], project: Project | None) -> Audited:
    """Put together what is known about one package."""
    # A build for processors alone, such as 2.13.0+cpu, has the code of the release.
    version = version.partition("+")[0]
    withdrawn = project is not None and version in project.withdrawn
    if "skip_reason" not in release:
        return Audited(name, version, "release", frozenset(map(Advisory.of, release["vulns"])), withdrawn)
    if project is None:
        return Audited(name, version, "nothing", frozenset(), withdrawn)
    is_latest = Version(project.latest) == Version(version)
    return Audited(name, version, "latest" if is_latest else "older", project.still, withdrawn)


def audit(pip_audit: str, index: str, pause: float) -> list[Audited]:
    """Ask about every package.

    Raises:
        RuntimeError: there was no answer.
    """
    releases = insisting(partial(releases_told, pip_audit), pause)
    installed = importlib.metadata.distributions()
    held: dict[str, str] = {canonicalize_name(one.metadata["Name"]): one.version for one in installed}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        projects = list(pool.map(lambda name: insisting(partial(project_told, index, name), pause), releases))
    return [
        weigh(name, release.get("version") or held[name], release, project)
        for (name, release), project in zip(releases.items(), projects, strict=True)
    ]


def needless(accepted: dict[str, dict[str, str]], packages: list[Audited]) -> list[str]:
    """Acceptances whose package is not held, or known to have no such advisory."""
    learned = {one.name: one for one in packages}
    return [
        name
        for name, entry in accepted.items()
        if (one := learned.get(canonicalize_name(entry["package"]))) is None
        or (one.learned in ("release", "latest") and not any(name in each.names for each in one.advisories))
    ]


def main(pip_audit: str, index: Annotated[str, typer.Option()] = PyPI.pypi_url, pause: float = PAUSE) -> None:
    """Ask, tell, and count."""
    accepted = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))
    try:
        packages = audit(pip_audit, index, pause)
    except RuntimeError as error:
        print(f"audit: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    count = Counter(one.learned for one in packages)
    how = ", ".join(f"{count[learned]} {words}" for learned, words in LEARNED.items())
    print(f"audit: {len(packages)} packages: {how}")
    for learned in ("older", "nothing"):
        if names := [str(one) for one in packages if one.learned == learned]:
            print(f"audit: {LEARNED[learned]}: {', '.join(names)}")
    wrong = [f"WITHDRAWN: {one}" for one in packages if one.withdrawn]
    for one in packages:
        for advisory in sorted(one.advisories, key=str):
            if reasons := [entry["why"] for name, entry in accepted.items() if name in advisory.names]:
                print(f"audit: accepted: {one}: {advisory}; {reasons[0]}")
            else:
                wrong.append(f"VULNERABLE: {one}: {advisory}")
    wrong += [f"{ACCEPTED.name}: delete {name}: no advisory needs it" for name in needless(accepted, packages)]
    for line in wrong:
        print(f"audit: {line}")
    raise typer.Exit(1 if wrong else 2 if count["nothing"] == len(packages) else 0)


if __name__ == "__main__":
    typer.run(main)
