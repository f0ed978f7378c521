"""The one list of ways to compress: a new one is a file beside this and a line here."""

from probes.compression import gptq, magnitude, rtn, sparsegpt, wanda
from probes.compression.method import Method
from probes.specs.registry import Registry

_METHODS: Registry[Method] = Registry(
    "compression method", [one.METHOD for one in (gptq, rtn, sparsegpt, wanda, magnitude)]
)

methods = _METHODS.every
method_of = _METHODS.of
registered = _METHODS.with_one_more
