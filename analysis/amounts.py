"""Amounts of memory and of time as they are written by a person and for one."""

from data.errors import InputError

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(text: str) -> int:
    """Read an amount of memory such as `8GB` or `500 MB`.

    Raises:
        InputError: it is not a number above zero with a unit.
    """
    number = text.strip().upper().rstrip("KMGTB")
    unit = text.strip().upper()[len(number) :].strip()
    try:
        amount = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        amount = 0.0
    if not 0 < amount < float("inf"):
        raise InputError(f"memory '{text}': write an amount such as 8GB (units: {', '.join(UNITS)})")
    return int(amount)


def spoken_bytes(amount: float) -> str:
    """An amount of memory as a person would say it: `40 MB`, `1.3 GB`."""
    unit = next((one for one in ("GB", "MB", "KB") if amount >= UNITS[one]), "B")
    return f"{amount / UNITS[unit]:.1f} GB" if unit == "GB" else f"{amount / UNITS[unit]:,.0f} {unit}"
