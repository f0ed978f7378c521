"""What this process may use of its machine: cores and memory, a container's or a batch job's bounds counted.

Linux bounds groups of processes (control groups) in files, of two forms: one tree for everything (version 2), or one
for each resource (version 1). A bound holds for a group and all below it, so that every folder from the process's own
up to the root counts; in a container the root is the container's own. Elsewhere the whole machine counts.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

OWN = Path("/proc/self/cgroup")
TREES = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may keep busy, at least one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([there, *(int(shares) for shares in _shares())]))


def bytes_free() -> int:
    """Memory that this process can be given now; what a file's cache holds counts as free."""
    return max(0, min([psutil.virtual_memory().available, *_rooms()]))


def _shares() -> Iterator[float]:
    """Processors' time that each group may take, in cores."""
    for group in _groups("cpu"):
        quota, period = (_text(group / "cpu.max") or "max 1").split()[:2]
        yield from _ratio(quota, period)
        yield from _ratio(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> list[float]:
    """A bound in cores; none where there is no quota, which is written as a word or as -1."""
    return [int(quota) / int(period)] if quota.isdecimal() and period.isdecimal() and int(period) > 0 else []


def _rooms() -> Iterator[int]:
    """Memory that each group has left."""
    for group in _groups("memory"):
        for bound, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, taken = _text(group / bound), _text(group / used)
            if limit.isdecimal() and taken.isdecimal():
                told = dict(line.split()[:2] for line in _text(group / "memory.stat").splitlines())
                yield int(limit) - int(taken) + int(told.get(cached, 0))


def _groups(resource: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, its own first, in either form."""
    for line in _text(OWN).splitlines():
        _, names, path = line.split(":", 2)
        if not names:
            roots = [TREES, TREES / "unified"]
        elif resource in names.split(","):
            roots = [TREES / names, TREES / resource]
        else:
            continue
        for root in roots:
            own = root / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _text(path: Path) -> str:
    """What a file says; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
