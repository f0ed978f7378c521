"""The list of the tables of a run: one more is one more entry here, and what fills it."""

from analysis.schema import banks, costs, facts, inside, tasks
from analysis.schema.table import Table
from probes.specs.registry import Registry

TABLES = Registry[Table](
    "table of a run",
    (
        *(facts.VARIANTS, facts.ANSWERS, facts.DEALT, facts.RECOVERY, facts.TRANSFER),
        *(inside.DRIFT, inside.ATTENTION, inside.FLOORS),
        *(inside.LENS, inside.LENS_ITEMS, inside.PROBES, inside.INTERVENTIONS, inside.EXAMPLES),
        *(banks.SELECTIONS, banks.BANKS, banks.SELECTORS),
        *(tasks.TASKS, tasks.PERPLEXITY),
        *(costs.TRAINING, costs.TIMINGS),
    ),
)
