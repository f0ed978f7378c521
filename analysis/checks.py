"""What can only be known once the model is open, found before anything is written: texts, lengths, shapes, hooks."""

from collections.abc import Iterator

from analysis.cells import Plan
from analysis.opening import calibration_blocks, clean_blocks, dense
from analysis.sizes import check_budget, check_fits, prompt_lengths
from analysis.study import Study
from analysis.study_blocks import OWN_TEXT
from data.errors import InputError
from data.facts import FactSet
from data.tasks import TaskSource, open_task
from data.text import load_text
from probes.capture import Recorder
from probes.compress import CompressionSpec
from probes.inputs import encode, longest_content
from probes.models import OpenedModel, config_of
from probes.repair_specs import TextSpec
from probes.specs import BankSpec, CheckpointSpec
from probes.tuning import encode_blocks

SAME = ("model_type", "num_hidden_layers", "vocab_size", "hidden_size", "num_attention_heads")
"""What a ready checkpoint shares with the dense model, in order of how much it explains."""


def check_inputs(plan: Plan, facts: FactSet) -> None:
    """Refuse a study whose model, checkpoints, texts or lengths do not fit together.

    Raises:
        InputError: naming what does not fit, and what to change.
    """
    opened = dense(plan.cells[0].fields)
    check_fits(plan.study, opened.model)
    check_budget(plan.study, opened.model)
    _check_checkpoints(plan.study, opened)
    _check_lengths(plan.study, facts, opened)
    if plan.of("drift"):
        Recorder(opened.model, backend=plan.study.drift.backend)
    check_text(plan)
    check_tasks(plan)


def _check_checkpoints(study: Study, opened: OpenedModel) -> None:
    """A ready checkpoint has the dense model's vocabulary, depth and widths: its weights are read only later."""
    for spec in study.compressions:
        if not isinstance(spec, CheckpointSpec):
            continue
        theirs = config_of(spec.path)
        for name in SAME:
            ours, other = getattr(opened.model.config, name, None), getattr(theirs, name, None)
            if ours != other:
                raise InputError(
                    f"checkpoint '{spec.path}' is not of the dense model's architecture: its {name} is {other} and "
                    f"that of '{study.model}' {ours}; name a checkpoint of this model"
                )


def _check_lengths(study: Study, facts: FactSet, opened: OpenedModel) -> None:
    """Every window and question has its place behind the longest prompt."""
    prompts = [*prompt_lengths(study), *_text_lengths(study, opened)]
    name, prompt = max(prompts, key=lambda one: one[1])
    room = longest_content(opened.model, prompt)
    behind = f"behind the {prompt} of {name} " if prompt else ""
    if study.drift.length > room:
        raise InputError(
            f"drift.length: {study.drift.length} tokens {behind}are more than the {longest_content(opened.model)} "
            f"positions of '{study.model}': lower it to {max(room, 0)} or shorten the prompt"
        )
    asked = [item for item in facts.items(facts.select(list(facts.groups)), "measure")]
    tokens, question = max((len(encode(opened.tokenizer, item.question)), item.question) for item in asked)
    if tokens > room:
        raise InputError(
            f"questions: '{question}' has {tokens} tokens, which {behind}are more than the "
            f"{longest_content(opened.model)} positions of '{study.model}': shorten the question or the prompt"
        )


def _text_lengths(study: Study, opened: OpenedModel) -> Iterator[tuple[str, int]]:
    """Tokens of every text that stands before a question, with the name of its repair."""
    for one in study.repairs:
        texts = one.texts if isinstance(one, BankSpec) else [one.text] if isinstance(one, TextSpec) else []
        yield from ((one.name, len(encode(opened.tokenizer, text))) for text in texts)


def check_text(plan: Plan) -> None:
    """Read every text that some cell will read, so that one too short is found before anything is written.

    Raises:
        InputError: naming the text and what it lacks.
    """
    study, fields = plan.study, plan.cells[0].fields
    for cell in plan.of("compressed"):
        settings = cell.fields["compression"]
        if settings["method"] != "checkpoint":
            calibration_blocks(cell.fields, CompressionSpec(**settings))
    if study.tuning.text_batch:
        clean_blocks(fields, "tuning", study.tuning.text_length, study.seeds[0], 1)
    encode_blocks(dense(fields).tokenizer, load_text(study.text, "heldout").paragraphs, study.drift.length)


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
    sources += [TaskSource(one["source"]) for one in texts if one["text"] != OWN_TEXT]
    for source in dict.fromkeys(sources):
        open_task(source)
