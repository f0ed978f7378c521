"""Ask the package index for known vulnerabilities of everything that this Python holds, and say so in a few lines.

    python .ci/audit.py PIP_AUDIT [SECONDS_BETWEEN_TRIES]

pip-audit itself ends well, with a line for each package, where it learned nothing about any of them: how many were
audited is therefore said first. Ends with 0 where nothing was found, 1 with advisories, 2 without an answer.
"""

import json
import subprocess
import sys
import sysconfig
import time
from collections import defaultdict
from typing import Any

TRIES = 4
PAUSE = 20.0
NAMED = 8
"""So many packages that could not be audited are named; of more, their number says enough."""


def asked(pip_audit: str, pause: float) -> list[dict[str, Any]]:
    """What pip-audit found out about each package.

    Raises:
        RuntimeError: there was no answer however often it was asked.
    """
    command = [pip_audit, "--path", sysconfig.get_paths()["purelib"], "--progress-spinner", "off"]
    said = ""
    for attempt in range(TRIES):
        time.sleep(pause if attempt else 0)
        done = subprocess.run([*command, "--format", "json", "--desc", "off"], capture_output=True, text=True)
        try:
            # Written at the end alone: an audit that broke off, for want of a network say, leaves no report.
            if packages := json.loads(done.stdout)["dependencies"]:
                return packages
            said = "it saw no packages"
        except (ValueError, KeyError, TypeError):
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise RuntimeError(f"no answer from pip-audit in {TRIES} tries: {said}")


def told(packages: list[dict[str, Any]]) -> list[str]:
    """How many packages were asked about, which could not be audited and why, and every advisory."""
    skipped: dict[str, list[str]] = defaultdict(list)
    for one in packages:
        if "skip_reason" in one:
            # After the colon it names the package.
            skipped[one["skip_reason"].split(":")[0]].append(one["name"])
    unknown = sum(map(len, skipped.values()))
    lines = [f"audit: {len(packages)} packages asked about, {len(packages) - unknown} audited, {unknown} could not be"]
    for reason, names in skipped.items():
        named = ", ".join(names) if len(names) <= NAMED else f"{len(names)} packages"
        lines.append(f"audit: not audited: {named} ({reason})")
    return lines + [advisory(one, found) for one in packages for found in one.get("vulns", [])]


def advisory(package: dict[str, Any], found: dict[str, Any]) -> str:
    """One advisory in a line: the package, its names, and the versions that mend it."""
    names = ", ".join([found["id"], *found.get("aliases", [])])
    mended = f"fixed in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "no version mends it yet"
    return f"audit: VULNERABLE: {package['name']} {package['version']}: {names}; {mended}"


def main() -> int:
    """Ask, tell, and count."""
    pip_audit, *pause = sys.argv[1:]
    try:
        packages = asked(pip_audit, float(pause[0]) if pause else PAUSE)
    except RuntimeError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    print(*told(packages), sep="\n")
    return int(any(one.get("vulns") for one in packages))


if __name__ == "__main__":
    sys.exit(main())
