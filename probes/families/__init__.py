"""Model families: a file each, and their list in `registry.py`."""

from probes.families.family import ROLES, Family, Heads
from probes.families.registry import families, family_of, gguf_readings, registered, require_supported

__all__ = ["ROLES", "Family", "Heads", "families", "family_of", "gguf_readings", "registered", "require_supported"]
