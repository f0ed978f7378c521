"""Which process of this machine is meant by a number: told by ticks since it booted, which no step of a clock moves."""

import os
from pathlib import Path


def machine() -> str | None:
    """This boot of this kernel and this container, where Linux says so."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def began(process: int) -> str | None:
    """When a running process began, in ticks since the machine did; None for one that has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
