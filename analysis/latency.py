"""What a run's own repairs cost at inference, as ratios to the model without one, timed in one go.

1. Open every repair of the main scope over one compression, first replicate, from the run's stored cells. Repairs that
   do the same work (prompts of one length, however they were made) are timed once.
2. Prefill: so many content tokens a row to the logits after the last. A prompt's keys and values are constants, or its
   tokens are read each time; LoRA lies beside the weights, or merged into them; IDP chooses anew for every row; an
   ensemble reads once a prompt.
3. Decode: some further tokens a row, one by one, from the keys and values that the prefill left.

Times differ from run to run: they lie in a file of their own, and shape no other number.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedModel

from analysis.live import check_memory, open_parts
from analysis.opening import parent_model
from analysis.reading import LATENCY, MERGED, read_table
from analysis.run_files import sealed_text
from analysis.schema import costs
from analysis.scopes import MAIN
from analysis.store import write_atomically
from analysis.stored_variants import Parts, find_parts
from analysis.timing import Work, time_ratio, times
from probes.lora import load_lora
from probes.repairs.base import ADAPTER
from probes.variants import Reading, Variant
from probes.windows import attention_mask

BATCHES = (1, 8)
TOKENS = 64
"""Content tokens a row."""
DECODED = 8
AS_TOKENS = "as tokens"
Rows = Sequence[Sequence[int]]
Prefill = Callable[[Rows], object]


def measure_latency(run: Path, *, rounds: int = 3) -> pd.DataFrame:
    """Time every repair of a finished run and keep the table beside its others.

    Columns: those of `analysis/schema/costs.py`.

    Raises:
        InputError: cells of the run are gone, or there is not enough memory to open its variants.
    """
    parent, repairs = _parts_of(run)
    check_memory([parent, *repairs.values()])
    bare = open_parts(parent)
    works, named = _distinct(repairs)
    found: list[dict[str, object]] = []
    for batch in BATCHES:
        rows = _rows(bare, batch)
        prefills: dict[str, Work] = {"": lambda rows=rows: bare.logits(rows)}  # type: ignore[misc]
        prefills |= {name: lambda one=one, rows=rows: one[0](rows) for name, one in works.items()}  # type: ignore[misc]
        decoded = {name: one for name, (_, one) in works.items() if one is not None} | {"": bare}
        decodes = {name: decoding(one.model, one.read(rows), DECODED) for name, one in decoded.items()}
        for phase, timed in (("prefill", prefills), ("decode", decodes)):
            taken = times(timed, rounds=rounds)
            found += [
                {"repair": repair, "phase": phase, "batch": batch, "form": form}
                | {"ratio": round(time_ratio(taken, name, ""), 3)}
                for repair, form, name in named
                if name in timed
            ]
    compression = parent.spec.compression
    table = pd.DataFrame(found).assign(
        compression="dense" if compression is None else compression.name, tokens=TOKENS, rounds=rounds
    )
    table = costs.LATENCY.frame(table)
    write_atomically(run / LATENCY, sealed_text(table.to_csv(index=False)))
    return table


def _parts_of(run: Path) -> tuple[Parts, dict[str, Parts]]:
    """The unrepaired copy of the last compression, and every repair over it, first replicate."""
    variants = read_table(run, "variants")
    main = variants[variants["scope"] == MAIN]
    own = main[main["compression"] == main["compression"].iloc[-1]]
    first = own.sort_values("replicate", kind="stable").drop_duplicates("repair")
    asked = first[first["kind"] != "recalibrated"]  # which adds nothing to a forward pass
    parts = find_parts(run, asked["variant_id"].tolist())
    (bare,) = (one for one in parts.values() if one.spec.repair is None)
    repairs = {
        one.spec.repair.name: one
        for one in parts.values()
        if one.spec.repair is not None and one.spec.repair.kind != "transferred"
    }
    return bare, repairs


def _distinct(
    repairs: Mapping[str, Parts],
) -> tuple[dict[str, tuple[Prefill, Variant | None]], list[tuple[str, str, str]]]:
    """What has to be timed, by name, and for every repair and form under which name its time is found."""
    works: dict[str, tuple[Prefill, Variant | None]] = {}
    named: list[tuple[str, str, str]] = []
    for repair, parts in repairs.items():
        variant = open_parts(parts)
        same = repair if variant.prompt is None else f"{len(variant.prompt)} tokens"
        for form, prefill, decoded in _forms(variant, parts):
            name = f"{same}, {form}"
            works.setdefault(name, (prefill, decoded))
            named.append((repair, form, name))
    return works, named


def _forms(variant: Variant, parts: Parts) -> Iterator[tuple[str, Prefill, Variant | None]]:
    """Every form that a repair can have at inference: its name, its prefill, and who decodes where that differs."""
    repair = parts.spec.repair
    if repair is not None and repair.asked == "every prompt":
        assert variant.bank is not None
        members = [
            Variant(variant.name, variant.model, variant.tokenizer, prompt=prompt) for prompt in variant.bank.prompts
        ]
        yield "", lambda rows: [member.logits(rows) for member in members], None
        return
    yield "", variant.logits, variant
    if variant.prompt is not None:
        yield AS_TOKENS, lambda rows: read_as_tokens(variant, rows), None
    if repair is not None and repair.mergeable:
        whole = _merged(parts)
        yield MERGED, whole.logits, whole


def _merged(parts: Parts) -> Variant:
    """An adapter merged into a copy of its parent's weights."""
    opened = parent_model(parts.fields, parts.needs)
    lora = load_lora(copy.deepcopy(opened.model), parts.needs["tuned0"] / ADAPTER)
    return Variant(f"{parts.spec.name}, merged", lora.merge_and_unload(safe_merge=True), opened.tokenizer)


def _rows(variant: Variant, batch: int) -> list[list[int]]:
    """Seeded token ids of the model's vocabulary."""
    draw = torch.Generator().manual_seed(0)
    words = int(variant.model.config.vocab_size)
    return torch.randint(words // 8, words, (batch, TOKENS), generator=draw).tolist()


@torch.no_grad()
def read_as_tokens(variant: Variant, rows: Rows) -> object:
    """The logits of a prompted variant by a pass over prompt and content."""
    arguments = variant.inputs(rows).forward_arguments()
    return variant.model(**arguments, use_cache=True, logits_to_keep=1).logits


def decoding(model: PreTrainedModel, reading: Reading, count: int) -> Work:
    """Say the likeliest token `count` times over, then forget them, so that every round starts alike."""
    start = reading.cache.get_seq_length()

    @torch.no_grad()
    def work() -> None:
        token, position = reading.logits.argmax(-1, keepdim=True), reading.next_position
        seen, positions = reading.seen, reading.positions
        for _ in range(count):
            seen = torch.cat([seen, torch.ones_like(token)], dim=1)
            positions = torch.cat([positions, position], dim=1)
            output = model(
                input_ids=token,
                attention_mask=attention_mask(model, seen, positions, position),
                position_ids=position,
                past_key_values=reading.cache,
                use_cache=True,
            )
            token, position = output.logits[:, -1].argmax(-1, keepdim=True), position + 1
        reading.cache.crop(start - reading.cache.get_seq_length())

    return work
