"""Where a JSON object is not of its declared form, in words."""

from typing import Any

from pydantic import TypeAdapter, ValidationError


def json_fault(form: TypeAdapter[Any], stored: dict[str, Any]) -> str | None:
    """The first place at which an object differs from a form, such as `a[0].b: field required`; None: nowhere."""
    try:
        form.validate_python(stored)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return None
