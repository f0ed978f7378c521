"""Act on one parent and on the prompts over it, and see what becomes of the answer.

1. Questions: test facts that damage lost first (the source's model right, the parent wrong, in the phrasing that
   defines damage, which nothing here is measured in), then others.
2. Patching: the source's states into the parent, place by place, beside both placebos (probes/interventions.py).
3. Knockout: the prompt's keys away from the content, window by window and in all layers, beside as many keys of the
   content, of which at most half goes (probes/knockout.py).

A family of tests is what one figure shows: one arm, or its difference from a placebo, at all places of one kind. Its
p-values are of that being above zero, adjusted by max-T over the family, by sign flips of whole entities. Content keys
are what the question is made of: a placebo knockout that hurts as much says that, too, and the difference tells.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from analysis.inside_items import lost_first, questions_of, right_on
from analysis.intervals import clustered_columns
from analysis.opening import dense, facts_of, open_variant, parts_of
from analysis.significance import max_t
from data.errors import InputError
from data.facts import FactSet
from probes.interventions import ARMS, Place, common_end, fitting_donors, log_odds, restore
from probes.knockout import FORMS, Form, Knockout, logits_without, placebo_keys, prompt_keys, windows
from probes.sites import Kind, Site
from probes.specs.variants import VariantSpec, spec_of
from probes.states import Question
from probes.variants import Variant

NO_HEAD = -1
KNOCKED, RANDOM_KEYS = "prompt keys", "random keys"
MOST_OF_CONTENT = 0.5
"""Share of the content's keys that a placebo knockout may take at most."""
Values = dict[str, Float[np.ndarray, "place item"]]


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the table of interventions."""
    cell = _Cell(fields, needs)
    rows = cell.patches()
    for place, spec in enumerate(cell.specs):
        if spec.repair is not None:
            rows += cell.knockouts(open_variant(fields, spec, parts_of(needs, str(place))), spec)
    pd.DataFrame(rows).to_parquet(folder / "interventions.parquet", index=False)


class _Cell:
    """One parent, its source and the questions."""

    def __init__(self, fields: dict[str, Any], needs: dict[str, Path]) -> None:
        self.settings, self.seed = fields["inside"], fields["seed"]
        self.facts: FactSet = facts_of(fields)
        self.specs = [spec_of(stored) for stored in fields["variants"]]
        self.parent_spec, self.source_spec = spec_of(fields["parent"]), spec_of(fields["source"])
        self.parent = open_variant(fields, self.parent_spec, parts_of(needs, "0"))
        self.source = open_variant(fields, self.source_spec, {})
        self.tokenizer = dense(fields).tokenizer
        self.groups = ", ".join(fields["groups"])
        wrong = right_on(needs[f"scored.{self.parent_spec.identity}"], "damage")
        lost = {key for key, correct in wrong.items() if not correct}
        if self.source_spec.repair is None:  # a key or a twin is right by construction
            known = right_on(needs[f"scored.{self.source_spec.identity}"], "damage")
            lost = {key for key in lost if known[key]}
        chosen = lost_first(self.facts.select(fields["groups"], "test"), lost, self.settings["items"], self.seed)
        self.lost = {key for key in lost if key in {(fact.relation, fact.subject) for fact in chosen}}
        self.questions = questions_of(self.tokenizer, self.facts, self.parent_spec, chosen)
        self.given = questions_of(self.tokenizer, self.facts, self.source_spec, chosen)

    def patches(self) -> list[dict[str, Any]]:
        """Rows of every patch: by site at each setting of positions, by head at the last one."""
        layers = range(0, self.parent.model.config.num_hidden_layers, self.settings["step"])
        sites = [Place(Site(layer, Kind(kind))) for layer in layers for kind in self.settings["sites"]]
        rows: list[dict[str, Any]] = []
        for positions in self.settings["positions"]:
            rows += self._patched(sites, positions)
        if self.settings["heads"]:
            count = self.parent.model.config.num_attention_heads
            heads = [Place(Site(layer, Kind.ATTN_OUT), head) for layer in layers for head in range(count)]
            rows += self._patched(heads, "last")
        return rows

    def _patched(self, places: list[Place], positions: str) -> list[dict[str, Any]]:
        """One family of patches, on the questions that have another fact to serve as placebo."""
        last = 1 if positions == "last" else None
        pairs = _with_donors(self.questions, self.given, last)
        if len(pairs) < 2:
            raise InputError(
                f"interventions ({self.groups}): {len(pairs)} of {len(self.questions)} questions have another fact of "
                "their relation, answered otherwise and as long, to serve as placebo: raise inside.interventions.items"
            )
        asked = [question for question, _ in pairs]
        found = restore(
            self.source,
            self.parent,
            asked,
            places,
            last=last,
            seed=self.seed,
            source_rows=[given.tokens for _, given in pairs],
        )
        values: Values = {arm: odds.double().cpu().numpy() for arm, odds in found.restored.items()}
        where = [
            {"site": str(place.site.kind), "layer": place.site.layer, "last_layer": place.site.layer}
            | {"head": NO_HEAD if place.head is None else place.head}
            for place in places
        ]
        common = {
            **{"variant_id": self.parent_spec.identity, "intervention": "patching", "source": self.source_spec.name},
            **{"positions": positions, "form": "", "keys": np.nan},
            **{"before": float(found.target.mean()), "reference": float(found.source.mean())},
        }
        return self._rows(asked, where, values, ("patched", ARMS[1:]), common)

    def knockouts(self, variant: Variant, spec: VariantSpec) -> list[dict[str, Any]]:
        """Rows of every knockout over one variant; none for one that puts nothing before the content."""
        if variant.prompt is None and variant.bank is None and variant.prefix is None:
            return []
        tokens = [question.tokens for question in self.questions]
        inputs = variant.inputs(tokens)  # once: a bank chooses its prompts here
        keys, others = prompt_keys(inputs), placebo_keys(inputs, self.seed, most=MOST_OF_CONTENT)
        layers, heads = variant.model.config.num_hidden_layers, variant.model.config.num_attention_heads
        step = self.settings["step"]
        spans = [*windows(layers, min(self.settings["window"], layers))[::step], tuple(range(layers))]
        spans = list(dict.fromkeys(spans))
        cuts: list[list[tuple[tuple[int, ...], int]]] = [[(span, NO_HEAD) for span in spans]]
        if self.settings["heads"]:
            cuts.append([((layer,), head) for layer in range(0, layers, step) for head in range(heads)])

        def odds(cut: Tensor, knockout: Knockout) -> np.ndarray:
            return log_odds(logits_without(variant, inputs, cut, knockout), self.questions).cpu().numpy()

        before = log_odds(variant.logits(tokens), self.questions).cpu().numpy()
        without = log_odds(self.parent.logits(tokens), self.questions)
        common = {
            **{"variant_id": spec.identity, "intervention": "knockout", "source": "", "positions": "all"},
            **{"before": float(before.mean()), "reference": float(without.mean())},
        }
        counts = {KNOCKED: float(keys.sum(1).double().mean()), RANDOM_KEYS: float(others.sum(1).double().mean())}
        rows: list[dict[str, Any]] = []
        for form in FORMS:
            for family in cuts:
                asked = [_knockout(span, form, head) for span, head in family]
                values = {
                    arm: np.stack([before - odds(cut, one) for one in asked])
                    for arm, cut in ((KNOCKED, keys), (RANDOM_KEYS, others))
                }
                where = [
                    {"site": str(Kind.PATTERN), "layer": span[0], "last_layer": span[-1], "head": head}
                    for span, head in family
                ]
                named = common | {"form": form}
                rows += self._rows(self.questions, where, values, (KNOCKED, (RANDOM_KEYS,)), named, counts)
        return rows

    def _rows(
        self,
        asked: list[Question] | tuple[Question, ...],
        where: list[dict[str, Any]],
        values: Values,
        against: tuple[str, tuple[str, ...]],
        common: dict[str, Any],
        keys: dict[str, float] | None = None,
    ) -> list[dict[str, Any]]:
        """Every arm at every place, then the first arm less each placebo with its adjusted p."""
        entities = [question.item.fact.subject for question in asked]
        lost = sum((one.item.fact.relation, one.item.fact.subject) in self.lost for one in asked)
        shared = {"group": self.groups, "items": len(asked), "entities": len(set(entities)), "lost": lost} | common
        first, placebos = against
        differences = {f"{first} - {placebo}": values[first] - values[placebo] for placebo in placebos}
        rows = []
        for arm, table in (values | differences).items():
            p = _adjusted(table.T, entities)
            found = clustered_columns(table.T, entities, seed=0)
            for place, value, lower, upper, one in zip(where, *found, p, strict=True):
                row = shared | place | {"arm": arm, "value": value, "lower": lower, "upper": upper, "p": one}
                rows.append(row if keys is None else row | {"keys": keys.get(arm, np.nan)})
        return rows


def _knockout(span: tuple[int, ...], form: Form, head: int) -> Knockout:
    return Knockout(span, form, None if head == NO_HEAD else (head,))


def _adjusted(table: Float[np.ndarray, "item place"], entities: list[str]) -> Float[np.ndarray, " place"]:
    """One-sided p of each place by max-T over all of them, entities flipped whole."""
    means = pd.DataFrame(table).groupby(entities).mean().to_numpy()
    return max_t(means, alternative="greater", resamples=2000, seed=0)


def _with_donors(
    questions: tuple[Question, ...], given: tuple[Question, ...], last: int | None
) -> list[tuple[Question, Question]]:
    """The questions, and as the source reads them, that have a fitting other fact among those that are kept."""
    kept = list(zip(questions, given, strict=True))
    while True:
        shared = [common_end(question.tokens, other.tokens) for question, other in kept]
        reach = [most if last is None else min(last, most) for most in shared]
        fitting = fitting_donors([question for question, _ in kept], reach)
        fit = [pair for pair, donors in zip(kept, fitting, strict=True) if donors]
        if len(fit) == len(kept):
            return kept
        kept = fit
