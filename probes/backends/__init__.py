"""Ways to read a model's tensors in one pass: TransformerLens' bridge, nnsight's trace, here or hosted, plain hooks.

A backend is a class with `run`, made from a model, in a file of its own, and one line in BACKENDS, or in HOSTED if it
asks another machine, which nothing does unasked. `probes.capture` checks what backends have in common: a backend
itself only runs the pass and reports what appears.
"""

from probes.backends.bridge import BridgeBackend
from probes.backends.hooks import HookBackend
from probes.backends.nnsight_remote import NnsightRemoteBackend
from probes.backends.nnsight_trace import NnsightBackend
from probes.backends.protocol import Backend, Batch, CaptureError, Reducer, arguments
from probes.backends.reported import as_reported, reported

BACKENDS: dict[str, type[Backend]] = {
    "transformer_lens": BridgeBackend,
    "nnsight": NnsightBackend,
    "hooks": HookBackend,
}
"""Those that read the model that is here."""
HOSTED: dict[str, type[Backend]] = {"nnsight_remote": NnsightRemoteBackend}
"""Those that read the same model on another machine."""

__all__ = [
    "BACKENDS",
    "HOSTED",
    "Backend",
    "Batch",
    "BridgeBackend",
    "CaptureError",
    "HookBackend",
    "NnsightBackend",
    "NnsightRemoteBackend",
    "Reducer",
    "arguments",
    "as_reported",
    "reported",
]
