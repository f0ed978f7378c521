"""The one list of repairs and of the arms beside them.

A new one is its value in a file beside this, how it is made and opened under the same name in `probes/repairs/`, and a
line here.
"""

from probes.specs.registry import Registry
from probes.specs.repairs.adapter import FolderSpec
from probes.specs.repairs.base import RepairKind
from probes.specs.repairs.ensemble import EnsembleSpec
from probes.specs.repairs.idp import IdpSpec
from probes.specs.repairs.key import KeySpec
from probes.specs.repairs.lora import LoraSpec
from probes.specs.repairs.placebo import PlaceboSpec
from probes.specs.repairs.prefix import PrefixSpec
from probes.specs.repairs.prompt import PromptSpec
from probes.specs.repairs.ptuning import PTuningSpec
from probes.specs.repairs.quantised import QuantisedSpec
from probes.specs.repairs.recalibrated import RecalibrationSpec
from probes.specs.repairs.reinjected import ReinjectionSpec
from probes.specs.repairs.sparse import SparseSpec
from probes.specs.repairs.text import TextSpec
from probes.specs.repairs.transferred import TransferredSpec
from probes.specs.repairs.twin import TwinSpec

BANK = (
    *(
        "probes.banks",
        "probes.idp",
        "probes.outcomes",
        "probes.repairs.bank",
        "probes.specs.repairs.bank",
        "probes.specs.selectors",
        "probes.selection.*",
    ),
)
_REPAIRS = Registry(
    "repair",
    (
        RepairKind("prompt", PromptSpec, "one soft prompt, tuned"),
        RepairKind("prefix", PrefixSpec, "trained keys and values at every layer", code=("probes.prefix_tuning",)),
        RepairKind("ptuning", PTuningSpec, "one soft prompt that an encoder made"),
        RepairKind("idp", IdpSpec, "a bank of prompts of which one is kept per question", code=BANK),
        RepairKind("lora", LoraSpec, "low-rank additions to the weights, tuned", code=("probes.lora",)),
        RepairKind("ensemble", EnsembleSpec, "a bank of prompts that are all asked", code=BANK),
        RepairKind("text", TextSpec, "words put before every question, untuned"),
        RepairKind("reinjected", ReinjectionSpec, "what compression took, put back from the dense weights"),
        RepairKind("adapter", FolderSpec, "a prompt, a prefix or a LoRA in a folder of peft's"),
        RepairKind("quantised", QuantisedSpec, "a prompt or prefix kept in few bits"),
        RepairKind("sparse", SparseSpec, "a prompt or prefix of which the largest numbers are kept"),
        RepairKind("placebo", PlaceboSpec, "one soft prompt, never tuned", arm=True),
        RepairKind("recalibrated", RecalibrationSpec, "answers re-weighted, the model untouched", arm=True),
        RepairKind("key", KeySpec, "the words that unlock the locked group", arm=True),
        RepairKind("twin", TwinSpec, "the atlas's twin, which was told of everybody", arm=True),
        RepairKind("transferred", TransferredSpec, "a repair that was tuned elsewhere", arm=True),
    ),
)

kinds = _REPAIRS.every
kind_of = _REPAIRS.of
registered = _REPAIRS.with_one_more
