"""The one list of ways to compress: a new one is a file beside this and a line here."""

from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import InputError
from probes.compression import gptq, magnitude, rtn, sparsegpt, wanda
from probes.compression.method import Method

_METHODS: dict[str, Method] = {
    one.METHOD.name: one.METHOD
    for one in (gptq, rtn, sparsegpt, wanda, magnitude)
}  # fmt: skip


def methods() -> tuple[Method, ...]:
    """Every method, quantisers first."""
    return tuple(_METHODS.values())


def method_of(name: str) -> Method:
    """The method of a name.

    Raises:
        InputError: there is none; names those that there are.
    """
    if name not in _METHODS:
        raise InputError(f"there is no compression method '{name}'; there are {', '.join(_METHODS)}")
    return _METHODS[name]


@contextmanager
def registered(method: Method) -> Iterator[None]:
    """Within it there is one method more: for what is tried in a notebook or a test, in this process alone."""
    if method.name in _METHODS:
        raise ValueError(f"there is a method '{method.name}' already")
    _METHODS[method.name] = method
    try:
        yield
    finally:
        del _METHODS[method.name]
