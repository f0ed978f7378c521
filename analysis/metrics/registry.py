"""Every metric of drift and attention: their stored names, words, units and groups are read from here alone.

In no cell's key: of this list a cell is told the metrics that it measures (`Measured`), and is keyed by those.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from analysis.metrics.metric import PATTERN, Measured, Metric

BASIC = "basic"
"""The group that is always measured."""

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="cosine",
            words="1 − cosine similarity",
            unit="0 to 2",
            group=BASIC,
            module="analysis.metrics.cosine",
        ),
        Metric(
            name="relative_l2",
            words="distance / reference length",
            unit="ratio",
            group=BASIC,
            module="analysis.metrics.cosine",
        ),
        Metric(
            name="cosine_standardised",
            words="1 − cosine similarity, largest dimensions standardised",
            unit="0 to 2",
            group="robust",
            module="analysis.metrics.standardised",
        ),
        Metric(
            name="relative_l2_standardised",
            words="distance / reference length, largest dimensions standardised",
            unit="ratio",
            group="robust",
            module="analysis.metrics.standardised",
        ),
        Metric(
            name="cka",
            words="1 − debiased linear CKA",
            unit="0 to 1",
            group="geometry",
            module="analysis.metrics.cka",
        ),
        Metric(
            name="procrustes",
            words="orthogonal Procrustes distance",
            unit="0 to √2",
            group="geometry",
            module="analysis.metrics.procrustes",
            floor=1e-4,  # a square root near zero
        ),
        Metric(
            name="spearman",
            words="1 − rank correlation",
            unit="0 to 2",
            group="robust",
            module="analysis.metrics.spearman",
            floor=1e-4,  # values that are nearly equal change places
        ),
        Metric(
            name="direction",
            words="cosine of the movement with the way back to dense",
            unit="−1 to 1",
            group="direction",
            module="analysis.metrics.direction",
            references=("dense", "parent"),
            signed=True,
            floor=None,
        ),
        Metric(
            name="value_span",
            words="movement inside the span of the prompt's values",
            unit="share",
            group="direction",
            module="analysis.metrics.value_span",
            sites=("attn_out",),
            references=("parent",),
            floor=None,
        ),
        Metric(
            name="value_span_random",
            words="movement inside the span of random values",
            unit="share",
            group="direction",
            module="analysis.metrics.value_span",
            sites=("attn_out",),
            references=("parent",),
            floor=None,
        ),
        Metric(
            name="jensen_shannon",
            words="Jensen-Shannon divergence over content keys",
            unit="bits",
            group=BASIC,
            module="analysis.metrics.divergence",
            sites=PATTERN,
        ),
        Metric(
            name="kl",
            words="KL divergence over content keys",
            unit="bits",
            group="heads",
            module="analysis.metrics.divergence",
            sites=PATTERN,
        ),
        Metric(
            name="prompt_mass",
            words="attention on the prompt",
            unit="share",
            group=BASIC,
            module="analysis.metrics.attention_mass",
            sites=PATTERN,
            level=True,
        ),
        Metric(
            name="first_mass",
            words="attention on the first content token",
            unit="share",
            group=BASIC,
            module="analysis.metrics.attention_mass",
            sites=PATTERN,
            level=True,
        ),
        Metric(
            name="entropy",
            words="entropy of attention over content keys",
            unit="bits",
            group="heads",
            module="analysis.metrics.divergence",
            sites=PATTERN,
            level=True,
        ),
        Metric(
            name="entropy_change",
            words="change of entropy over content keys",
            unit="bits",
            group="heads",
            module="analysis.metrics.divergence",
            sites=PATTERN,
            signed=True,
        ),
    )
}
"""By stored name, in the order in which one site's numbers are stored."""


def metric_groups() -> tuple[str, ...]:
    """What a study may name in `drift.metrics`."""
    return tuple(dict.fromkeys(metric.group for metric in METRICS.values()))


def measured_in(asked: Collection[str]) -> tuple[Measured, ...]:
    """The metrics of these groups, in the order of the list."""
    return tuple(Measured.of(metric.stored()) for metric in METRICS.values() if metric.group in asked)


@dataclass(frozen=True, eq=False)
class Words(Mapping[str, tuple[str, str]]):
    """Words and unit of every metric in the list as it stands, and of others that are handed over."""

    others: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> tuple[str, str]:
        if name in METRICS:
            return METRICS[name].words, METRICS[name].unit
        return self.others[name]

    def __iter__(self) -> Iterator[str]:
        yield from METRICS
        yield from self.others

    def __len__(self) -> int:
        return len(METRICS) + len(self.others)
