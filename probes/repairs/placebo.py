"""One soft prompt, drawn and never tuned."""

from probes.prompts import draw_prompt
from probes.repairs.base import Opening, RepairWork
from probes.specs.repairs.placebo import PlaceboSpec
from probes.variants import Variant


class PlaceboWork(RepairWork[PlaceboSpec]):
    """Drawn where it is opened."""

    def open(self, spec: PlaceboSpec, opening: Opening) -> Variant:
        """The parent behind the drawn prompt."""
        seed = spec.seed(opening.drawn_with)
        return opening.variant(prompt=draw_prompt(opening.parent.model, spec.length, seed, spec.draw))

    def only_vectors(self, spec: PlaceboSpec) -> bool:
        """Yes."""
        return True


REPAIR = PlaceboWork()
