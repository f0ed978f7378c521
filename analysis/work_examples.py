"""Show a few questions whole: token by token, every head's attention and every layer's lens, under each arm.

Questions are chosen by what became of them: first those that compression lost and a repair gave back, then lost ones,
then any, each in a seeded order. One small file each, with names and text beside the numbers and no pickle.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.inside_items import Key, questions_of, right_on
from analysis.opening import facts_of, open_variant, parts_of
from data.facts import Fact
from probes.capture import Recorder
from probes.lens import decode, rank_of
from probes.sites import Kind, Site, sites_of
from probes.specs.variants import VariantSpec, spec_of
from probes.states import Question
from probes.variants import Variant


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write a file per question and the table that says what is in them."""
    facts = facts_of(fields)
    specs = [spec_of(stored) for stored in fields["variants"]]
    parent, source = spec_of(fields["parent"]), spec_of(fields["source"])
    right = {spec.identity: right_on(needs[f"scored.{spec.identity}"], "measure") for spec in specs}
    asked = facts.select(fields["groups"], "test")
    repairs = [spec for spec in specs if spec.compression == parent.compression and spec.repair is not None]
    repairs = [spec for spec in repairs if spec != source]
    fates = _fates(asked, right[source.identity], right[parent.identity], {one: right[one.identity] for one in repairs})
    chosen = _chosen(asked, fates, fields["inside"]["items"], fields["seed"])
    held: list[dict[str, Any]] = [{} for _ in chosen]
    for place, spec in enumerate(specs):  # one variant open at a time
        variant = open_variant(fields, spec, parts_of(needs, str(place)))
        for arrays, question in zip(held, questions_of(variant.tokenizer, facts, spec, chosen), strict=True):
            arrays |= {f"{place}.{name}": values for name, values in read_example(variant, question).items()}
    rows = []
    for fact, arrays in zip(chosen, held, strict=True):
        name = _file_name(parent, fact)
        (item,) = facts.items([fact], "measure")
        key = fact.relation, fact.subject
        about = {"item": item.name, "group": fact.group, "question": item.question, "answer": fact.answer}
        about |= {"why": fates[key][1]}
        stored: dict[str, Any] = {name: np.array(text) for name, text in about.items()} | arrays
        stored["variant_ids"] = np.array([spec.identity for spec in specs])
        np.savez_compressed(folder / name, **stored)
        rows += [
            about | {"file": name, "variant_id": spec.identity, "correct": bool(right[spec.identity][key])}
            for spec in specs
        ]
    pd.DataFrame(rows).to_parquet(folder / "examples.parquet", index=False)


def _fates(
    asked: tuple[Fact, ...], source: pd.Series, parent: pd.Series, repairs: Mapping[VariantSpec, pd.Series]
) -> dict[Key, tuple[int, str]]:
    """What became of each fact, best example first, in words."""
    found = {}
    for fact in asked:
        key = fact.relation, fact.subject
        lost = bool(source[key]) and not bool(parent[key])
        back = [spec.repair.name for spec, right in repairs.items() if spec.repair is not None and bool(right[key])]
        if lost and back:
            found[key] = 0, f"lost, given back by {', '.join(back)}"
        else:
            found[key] = (1, "lost, given back by no repair") if lost else (2, "not lost")
    return found


def _chosen(asked: tuple[Fact, ...], fates: dict[Key, tuple[int, str]], most: int, seed: int) -> list[Fact]:
    """The best examples, drawn among equals."""
    draw = np.random.default_rng(seed)
    shuffled = [asked[place] for place in draw.permutation(len(asked))]
    return sorted(shuffled, key=lambda fact: fates[fact.relation, fact.subject][0])[:most]


def _file_name(parent: VariantSpec, fact: Fact) -> str:
    """Readable, safe as a file's name, and never the same for two questions."""
    words = f"{parent.scope} {parent.name} {fact.relation} {fact.subject}"
    short = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:80]
    digest = hashlib.sha256(f"{parent.identity} {fact.relation} {fact.subject}".encode()).hexdigest()[:6]
    return f"{short}-{digest}.npz"


@torch.no_grad()
def read_example(variant: Variant, question: Question) -> dict[str, np.ndarray]:
    """Arrays of one question under one variant, over the positions it reads: prompt, then content.

    `tokens`; `attention` (layer, head, query, key); of the lens at every layer and position `lens_top` (its first
    token) with `lens_top_log_prob`, and `lens_log_prob` and `lens_rank` of the right answer's first token.
    """
    inputs = variant.inputs([question.tokens])
    real = inputs.attention_mask[0].bool()
    prompt = int((real & ~inputs.content[0]).sum())
    held: dict[Site, Tensor] = {}

    def keep(site: Site, tensor: Tensor) -> None:
        held[site] = tensor[0].clone()

    with Recorder(variant.model, backend="hooks") as recorder:
        logits = recorder.stream(inputs, sites_of(variant.model, [Kind.PATTERN, Kind.RESID_POST]), keep)[0]
    layers = variant.model.config.num_hidden_layers
    read: dict[str, list[np.ndarray]] = {name: [] for name in ("top", "top_log_prob", "log_prob", "rank")}
    for layer in range(layers):
        own = logits if layer == layers - 1 else decode(variant.model, held[Site(layer, Kind.RESID_POST)])
        log_probs = own[real].float().log_softmax(-1)
        best = log_probs.max(-1)
        right = torch.full((len(log_probs),), question.right, device=log_probs.device)
        read["top"].append(np.array(_words(variant, best.indices.tolist())))
        read["top_log_prob"].append(best.values.cpu().numpy().astype(np.float16))
        read["log_prob"].append(log_probs[:, question.right].cpu().numpy().astype(np.float16))
        read["rank"].append(rank_of(log_probs, right).cpu().numpy().astype(np.int32))
    patterns = [held[Site(layer, Kind.PATTERN)][:, real][:, :, real] for layer in range(layers)]
    tokens = [f"P{place + 1}" for place in range(prompt)] + _words(variant, list(question.tokens))
    return {
        "tokens": np.array(tokens),
        "prompt": np.array(prompt),
        "attention": torch.stack(patterns).float().cpu().numpy().astype(np.float16),
        **{f"lens_{name}": np.stack(parts) for name, parts in read.items()},
    }


def _words(variant: Variant, tokens: list[int]) -> list[str]:
    """Each token as text; what decodes to nothing is shown as the tokenizer writes it."""
    names = variant.tokenizer.convert_ids_to_tokens(tokens)
    return [str(variant.tokenizer.decode([token])) or str(name) for token, name in zip(tokens, names, strict=True)]
