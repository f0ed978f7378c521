"""The one list of the figures of a run: a new one is a file beside this and a line here."""

from analysis.figures import account, doses, drift, evidence, heads, inside, maps, prompts, recovery, tasks, transfer
from analysis.figures.entry import RunFigure
from probes.specs.registry import Registry

_FIGURES: Registry[RunFigure] = Registry(
    "figure",
    (
        recovery.RECOVERY,
        tasks.TASKS,
        tasks.PERPLEXITY,
        doses.LENGTH,
        doses.BANK,
        doses.STEPS_MADE,
        doses.RANK,
        doses.DAMAGE,
        drift.STREAM,
        drift.MLP,
        heads.ATTENTION,
        maps.MAPS,
        prompts.SELECTORS,
        recovery.PARAMETERS,
        prompts.LATENCY,
        account.ACCOUNT,
        evidence.EVIDENCE,
        evidence.CALIBRATION,
        evidence.CLAIMS,
        inside.LENS,
        inside.PROBES,
        inside.INTERVENTIONS,
        transfer.TRANSFER,
    ),
)

figures = _FIGURES.every
figure_of = _FIGURES.of
registered = _FIGURES.with_one_more
