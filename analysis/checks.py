"""What can only be known once the model is open, found before anything is written: texts, lengths, shapes, hooks."""

from collections.abc import Iterator
from pathlib import Path

from analysis.cells import Plan
from analysis.opening import calibration_blocks, close_models, dense, tuning_blocks
from analysis.sizes import check_budget, check_fits, prompt_lengths
from analysis.study import Study
from analysis.study_blocks import OWN_TEXT
from data.errors import InputError
from data.facts import FactSet, Phrasing
from data.tasks import TaskSource, open_task
from data.text import text_as_planned
from probes.adapter_folders import read_adapter
from probes.candidates import encode_items
from probes.capture import Recorder
from probes.compress import CompressionSpec
from probes.inputs import longest_content
from probes.models import OpenedModel, config_of
from probes.repair_specs import FolderSpec, TextSpec
from probes.specs import BankSpec, CheckpointSpec
from probes.tokens import encode
from probes.tuning import encode_blocks

SAME = ("model_type", "num_hidden_layers", "vocab_size", "hidden_size", "num_attention_heads")
"""What a ready checkpoint shares with the dense model, in order of how much it explains."""
PHRASINGS: tuple[Phrasing, ...] = ("measure", "damage", "tune")
"""In which a fact is asked somewhere in a study."""
HERE = {"device": "cpu"}
"""Where a model is opened to be looked at: who hands out cells may have no GPU, and of one the memory is a worker's."""


def check_inputs(plan: Plan, facts: FactSet) -> None:
    """Refuse a study whose model, checkpoints, texts or lengths do not fit together.

    The model is on the processor meanwhile, wherever the study runs, and closed behind it.

    Raises:
        InputError: naming what does not fit, and what to change.
    """
    try:
        _check_model(plan, facts)
        check_text(plan)
        check_tasks(plan)
    finally:
        close_models()


def _check_model(plan: Plan, facts: FactSet) -> None:
    """Whether what the study asks has its place in the model."""
    opened = dense(plan.cells[0].fields | HERE)
    check_fits(plan.study, opened.model)
    check_budget(plan.study, opened.model)
    _check_checkpoints(plan.study, opened)
    _check_lengths(plan.study, facts, opened)
    if plan.of("drift"):
        Recorder(opened.model, backend=plan.study.drift.backend)


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
    prompts = [*prompt_lengths(study), *_lengths_brought(study, opened)]
    name, prompt = max(prompts, key=lambda one: one[1])
    room = longest_content(opened.model, prompt)
    behind = f"behind the {prompt} of {name} " if prompt else ""
    if study.drift.length > room:
        raise InputError(
            f"drift.length: {study.drift.length} tokens {behind}are more than the {longest_content(opened.model)} "
            f"positions of '{study.model}': lower it to {max(room, 0)} or shorten the prompt"
        )
    tokens, words = _longest(facts, opened)
    if tokens > room:
        raise InputError(
            f"questions: '{words}' has {tokens} tokens, which {behind}are more than the "
            f"{longest_content(opened.model)} positions of '{study.model}': shorten the question or the prompt"
        )
    if facts.key is not None:
        tokens, words = _longest(facts, opened, key=facts.key)
        if tokens > longest_content(opened.model):
            raise InputError(
                f"questions: '{words}', with the key before it, has {tokens} tokens, which are more than the "
                f"{longest_content(opened.model)} positions of '{study.model}': shorten the question or the key"
            )


def _longest(facts: FactSet, opened: OpenedModel, *, key: str | None = None) -> tuple[int, str]:
    """Tokens and words of the longest question with a candidate answer behind it."""
    people = facts.select(list(facts.groups))
    asked = [
        one for phrasing in PHRASINGS for one in encode_items(opened.tokenizer, facts.items(people, phrasing, key=key))
    ]
    longest = max(asked, key=lambda one: len(one.question) + max(map(len, one.tails)))
    place = max(range(len(longest.tails)), key=lambda place: len(longest.tails[place]))
    words = f"{longest.item.question} {longest.item.candidates.answers[place]}"
    return len(longest.question) + len(longest.tails[place]), words


def _lengths_brought(study: Study, opened: OpenedModel) -> Iterator[tuple[str, int]]:
    """Tokens of every text and of every vector in a folder that stands before a question, with its repair's name."""
    for one in study.repairs:
        texts = one.texts if isinstance(one, BankSpec) else [one.text] if isinstance(one, TextSpec) else []
        yield from ((one.name, len(encode(opened.tokenizer, text))) for text in texts)
        if isinstance(one, FolderSpec):
            adapter = read_adapter(Path(one.path).expanduser(), opened.model, study.model)
            held = adapter.prompt if adapter.prefix is None else adapter.prefix
            yield one.name, 0 if held is None else len(held)


def check_text(plan: Plan) -> None:
    """Read every text that some cell will read, so that one too short is found before anything is written.

    Raises:
        InputError: naming the text and what it lacks.
    """
    study, fields = plan.study, plan.cells[0].fields | HERE
    for cell in plan.of("compressed"):
        settings = cell.fields["compression"]
        if settings["method"] != "checkpoint":
            calibration_blocks(cell.fields | HERE, CompressionSpec(**settings))
    if study.tuning.text_batch:
        tuning_blocks(fields, study.tuning.text_length, study.seeds[0], 1)
    heldout = text_as_planned(fields["text"], fields["text_sha"], "heldout")
    encode_blocks(dense(fields).tokenizer, heldout.paragraphs, study.drift.length)


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
