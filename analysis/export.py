"""Write one repair of a finished run for use outside: as a folder of peft's, a bank of prompts as one file in it."""

from pathlib import Path

from analysis.cells import Cell
from analysis.opening import bank_fitting, open_variant, parent_model, spec_of
from analysis.reading import read_manifest
from analysis.run import prepare
from analysis.scopes import MAIN
from analysis.store import Store
from analysis.study import Study
from analysis.tables import replicate_of
from analysis.tuners import ADAPTER
from data.errors import InputError
from probes.adapter_folders import write_lora, write_prefix, write_prompt
from probes.lora import load_lora
from probes.prompts import save_prompts
from probes.specs.banks import BankSpec
from probes.specs.repairs import PTuningSpec
from probes.specs.variants import VariantSpec

BANK = "bank.safetensors"


def export(run: Path, out: Path, variant: str, to: Path, *, scope: str = MAIN, replicate: int | None = None) -> Path:
    """Write a variant's prompt, prefix or adapter; the folder names the dense model as its base.

    A repair of a compressed copy belongs on that copy: the same architecture with other weights. peft has no form for
    a bank: its prompts are one safetensors file, which a study's `bank: files` reads.

    Raises:
        InputError: no such variant, one that holds nothing to be written, a folder that is already there, or a run
            whose cells were computed by other code than this.
    """
    if to.exists():
        raise InputError(f"'{to}' is already there: name another folder")
    study = Study.model_validate(read_manifest(run)["study"])
    cell = _find(study, variant, scope, replicate)
    store = Store(out)
    needs = {role: need for role, need in cell.needs.items() if need.kind in ("compressed", "tuned")}
    spec = spec_of(cell.fields["variant"])
    bank = isinstance(spec.repair, BankSpec) and spec.repair.adapter is None
    if not bank and set(needs) - {"compressed"} != {"tuned0"}:
        raise InputError(f"'{variant}' is no single prompt, prefix or adapter that was made: peft has no form for it")
    if absent := [need.label for need in needs.values() if not store.done(need.key)]:
        raise InputError(f"'{absent[0]}' was computed by other code or elsewhere: run the study again, then export")
    if damaged := [need.label for need in needs.values() if store.damage(need.key)]:
        raise InputError(f"'{damaged[0]}' is damaged: run the study again, which computes it anew, then export")
    folders = {role: store.folder(need.key) for role, need in needs.items()}
    if bank:
        return _write_bank(to, cell, spec, folders)
    parent = parent_model(cell.fields, folders).model
    opened = open_variant(cell.fields, spec, folders)
    if opened.prompt is not None:
        method = "P_TUNING" if isinstance(spec.repair, PTuningSpec) else "PROMPT_TUNING"
        write_prompt(to, opened.prompt, parent, study.model, method)
    elif opened.prefix is not None:
        write_prefix(to, opened.prefix.flat, parent, study.model)
    else:
        write_lora(to, load_lora(parent, folders["tuned0"] / ADAPTER), parent, study.model)
    return to


def _write_bank(to: Path, cell: Cell, spec: VariantSpec, folders: dict[str, Path]) -> Path:
    """The prompts that a bank keeps, in its order."""
    found = bank_fitting(cell.fields, spec, folders)
    to.mkdir(parents=True)
    save_prompts(found.prompts, to / BANK, {"model": spec.model, "variant": spec.name, "scope": spec.scope})
    return to


def _find(study: Study, variant: str, scope: str, replicate: int | None) -> Cell:
    """The scored cell of a variant by its spoken name."""
    plan, _ = prepare(study)
    wanted = study.seeds[0] if replicate is None else replicate
    specs = [(cell, spec_of(cell.fields["variant"])) for cell in plan.of("scored")]
    here = [(cell, spec) for cell, spec in specs if spec.scope == scope and replicate_of(spec) == wanted]
    for cell, spec in here:
        if spec.name == variant:
            return cell
    names = sorted({spec.name for _, spec in here if spec.repair is not None})
    raise InputError(
        f"no variant '{variant}' in scope {scope} and replicate {wanted}; there are {', '.join(names) or 'none'}"
    )
