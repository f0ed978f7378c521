"""Words put before every question, untuned."""

from probes.prompts import text_prompts
from probes.repairs.base import Opening, RepairWork
from probes.specs.repairs.text import TextSpec
from probes.variants import Variant


class TextWork(RepairWork[TextSpec]):
    """The words' own embeddings as a prompt."""

    def open(self, spec: TextSpec, opening: Opening) -> Variant:
        """The parent behind the words."""
        parent = opening.parent
        return opening.variant(prompt=text_prompts(parent.model, parent.tokenizer, [spec.text])[0])

    def only_vectors(self, spec: TextSpec) -> bool:
        """Yes."""
        return True


REPAIR = TextWork()
