"""What can only be known once the model is open, or data of others is: found before anything is written."""

from analysis.cells import Plan
from analysis.opening import close_models, dense
from analysis.resolve import Resolved
from analysis.study_blocks import OWN_TEXT
from data.tasks import TaskSource, open_task
from probes.capture import Recorder

HERE = {"device": "cpu"}
"""Where a model is opened to be looked at: who hands out cells may have no GPU, and of one the memory is a worker's."""


def check_opened(resolved: Resolved) -> None:
    """Refuse a study whose tasks cannot be read, or whose model does not open or cannot be recorded.

    The model is opened on the processor wherever the study runs, and closed.

    Raises:
        InputError: naming what does not fit, and what to change.
    """
    plan = resolved.plan
    check_tasks(plan)
    try:
        opened = dense(plan.cells[0].fields | HERE)
        if plan.of("drift"):
            Recorder(opened.model, backend=plan.study.drift.backend)
    finally:
        close_models()


def check_tasks(plan: Plan) -> None:
    """Open every task and text that some cell will score, so that one of a hub out of reach is found first.

    Raises:
        InputError: naming the task.
    """
    asked = [cell.fields for cell in plan.of("tasks")]
    sources = [
        TaskSource(one["task"]["name"], one["task"]["file"], one["task"]["sha"]) for one in asked if "task" in one
    ]
    texts = [one["perplexity"] for one in asked if "perplexity" in one]
    sources += [TaskSource(one["source"], sha=one["sha"]) for one in texts if one["text"] != OWN_TEXT]
    for source in dict.fromkeys(sources):
        open_task(source)
