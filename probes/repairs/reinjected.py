"""What compression took from the weights, put back from the dense ones; `probes/reinjection.py` computes it."""

from pathlib import Path

from probes.reinjection import reinject
from probes.repairs.base import ADAPTER, Making, Size
from probes.repairs.lora import KeptAdapter
from probes.specs.repairs.reinjected import ReinjectionSpec


class ReinjectionWork(KeptAdapter[ReinjectionSpec]):
    """An adapter that is computed."""

    def make(self, spec: ReinjectionSpec, making: Making, folder: Path) -> Size:
        """Write what compression took, as far as the rank goes, as an adapter; nothing is tuned."""
        repaired = reinject(making.dense(), making.model, rank=spec.rank)
        repaired.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
        return Size.of((one for name, one in repaired.named_parameters() if "lora_" in name), ())


REPAIR = ReinjectionWork()
