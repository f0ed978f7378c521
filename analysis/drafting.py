"""Studies as plain values for a form: where to start from, which fields a row has, and what a repair is called.

A convenience with no model library in it: what a study may hold is decided by analysis/study.py, which checks it all.
"""

from pathlib import Path
from typing import Any

import yaml

from data.errors import InputError
from data.user_yaml import read_yaml
from probes.compression.registry import methods

SHIPPED = Path(__file__).parent.parent / "data" / "studies"
PRUNERS = tuple(one.name for one in methods() if one.prunes)
QUANTISERS = tuple(one.name for one in methods() if not one.prunes)
OTHER = "other"
"""A kind that the form has no fields for: written as YAML."""
REPAIR_FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("length", "learning_rate"),
    "prefix": ("length", "learning_rate"),
    "ptuning": ("length", "learning_rate", "encoder"),
    "lora": ("rank", "learning_rate", "targets"),
    "idp": ("lengths", "learning_rate", "bank", "selector"),
}
DEFAULTS: dict[str, Any] = {
    "length": 8,
    "learning_rate": 0.03,
    "encoder": "mlp",
    "rank": 4,
    "targets": "all",
    "lengths": [8, 8],
    "bank": "seeds",
    "selector": "attention",
}
USUAL = {
    **{"answers": "true", "layers": "first", "queries": "all", "per_token": True, "softmax": "joint"},
    **{"states": "first", "symmetric": True, "compress_controls": False, "fact_seed": 0},
}
"""Values of a stored study that say nothing: what these fields are unless told."""
FORM = (
    *("name", "title", "model", "dtype", "device", "facts", "groups", "controls", "text", "compressions", "seeds"),
    *("repairs", "reported", "tuning", "placebos", "drift", "score_batch", "threads"),
)
"""Keys of a study that have a field of their own; the others are written as YAML."""


def shipped() -> list[str]:
    """Names of the studies that ship, the demo first."""
    return sorted((path.stem for path in SHIPPED.glob("*.yaml")), key=lambda name: (name != "atlas", name))


def shipped_study(name: str) -> dict[str, Any]:
    """A study that ships, as it is written."""
    study: dict[str, Any] = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))
    return study


def bare(study: dict[str, Any]) -> dict[str, Any]:
    """A stored study as one would write it: what was left to its default is left out."""
    # What is read inside keeps its nulls: there they leave an instrument out.
    return {key: value if key == "inside" else _bare(value) for key, value in study.items() if _told(key, value)}


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in value.items() if _told(key, one)}
    return [_bare(one) for one in value] if isinstance(value, list) else value


def _told(key: str, value: Any) -> bool:
    return value is not None and value not in ({}, [], "") and not (key in USUAL and value == USUAL[key])


def further(study: dict[str, Any]) -> str:
    """The keys that have no field of their own, as YAML."""
    rest = {key: value for key, value in study.items() if key not in FORM}
    return yaml.safe_dump(rest, sort_keys=False, default_flow_style=None, width=80) if rest else ""


def with_further(study: dict[str, Any], text: str) -> dict[str, Any]:
    """A study with the keys written as YAML.

    Raises:
        InputError: they are no YAML, no keys, or have a field of their own.
    """
    found = read_yaml(text, "further fields") or {}
    if not isinstance(found, dict):
        raise InputError("further fields: write keys with values, such as `candidates: 8`")
    if double := sorted(set(found) & set(FORM)):
        raise InputError(f"further fields: {', '.join(double)} has a field of its own above")
    return study | found


def whole_numbers(text: str, where: str) -> list[int]:
    """Numbers written with commas between them.

    Raises:
        InputError: something else is written there.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{where}: write whole numbers with commas between them, such as 8, 8") from None


def sparsity_or_pattern(text: str, where: str) -> dict[str, Any]:
    """How much is pruned: a share such as 0.5, or a pattern such as 2:4.

    Raises:
        InputError: it is neither.
    """
    if ":" in text:
        return {"pattern": text.strip()}
    try:
        return {"sparsity": float(text)}
    except ValueError:
        raise InputError(f"{where}: write a share such as 0.5, or a pattern such as 2:4") from None


def spoken(repair: dict[str, Any]) -> str | None:
    """What a repair with the form's fields alone is called in a study; None for any other.

    Raises:
        InputError: the kind is no word, or what the name is made of is not written.
    """
    kind = repair.get("kind")
    if not isinstance(kind, str | None):
        raise InputError(f"repair: kind {kind}: write one word, such as {{kind: prompt, length: 8}}")
    if kind not in REPAIR_FIELDS or set(repair) - {"kind", *REPAIR_FIELDS[kind]}:
        return None
    size = _size(repair, kind)
    if kind == "lora":
        return f"lora-r{size}"
    if kind != "idp":
        encoder = repair.get("encoder", "mlp")
        return f"{kind}-{size}" + ("" if encoder == "mlp" else f"-{encoder}")
    return f"idp-{_bank_words(repair, size)}"


def _size(repair: dict[str, Any], kind: str) -> Any:
    """Tokens of a prompt, of each prompt of a bank, or a rank."""
    name = {"lora": "rank", "idp": "lengths"}.get(kind, "length")
    found = repair.get(name)
    numbers = found if kind == "idp" and isinstance(found, list) else [found]
    if (kind == "idp") != isinstance(found, list) or not numbers or not all(isinstance(one, int) for one in numbers):
        raise InputError(f"repair {kind}: write its {name}, such as {{kind: {kind}, {name}: {DEFAULTS[name]}}}")
    return found


def _bank_words(repair: dict[str, Any], lengths: list[int]) -> str:
    shape = f"{len(lengths)}x{lengths[0]}" if len(set(lengths)) == 1 else ",".join(map(str, lengths))
    bank = [] if repair.get("bank", "seeds") == "seeds" else [str(repair["bank"])]
    return "-".join([shape, *bank, str(repair.get("selector", "attention"))])
