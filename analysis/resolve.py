"""What a study asks for, looked at from small files alone, before a weight is read: by every command alike.

Model, checkpoints, tokenizer, repairs, facts and text: what a cell would refuse of them is refused while planning.
"""

from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from analysis.cell import Plan
from analysis.opening import calibration_blocks, tuning_blocks
from analysis.sizes import check_budget, check_fits
from analysis.study import Study
from data.errors import InputError
from data.facts import FactSet, Phrasing
from data.tasks import find_tasks, task_notes
from data.text import text_as_planned
from probes.candidates import require_apart
from probes.inputs import longest_content, spoken_positions
from probes.likeness import look_checkpoint
from probes.models import Found, find, outline, outline_of
from probes.repairs.registry import work_of
from probes.specs.compression import CompressionSpec
from probes.tokens import ask_by, encode, encode_continuations, ended_note, has_template, require_rows
from probes.tuning import encode_blocks

PHRASINGS: tuple[Phrasing, ...] = ("measure", "damage", "tune")
"""In which a fact is asked somewhere in a study."""


@dataclass(frozen=True)
class Resolved:
    """A study whose model, checkpoints, repairs, facts, lengths and text were looked at and fit together."""

    plan: Plan
    facts: FactSet
    model: PreTrainedModel
    """Without weights: as its files describe it, or the study's `shape` where they are not here."""
    found: Found | None
    """The model's files; None where they are not on this machine, so that what reads words was not looked at."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be said wherever the study's numbers stand: of its model's file, its questions and its tasks."""
        study = self.plan.study
        told = [] if self.found is None else list(model_notes(self.found, study.template))
        if study.tasks is not None and study.tasks.files is not None:
            told.append(task_notes(find_tasks(study.tasks.names, study.tasks.files)))
        return tuple(filter(None, told))


def resolve(plan: Plan, facts: FactSet, *, here: bool = True) -> Resolved:
    """Look at all that a study's small files tell; where its model is not `here`, at its sizes alone.

    Raises:
        InputError: naming what does not fit, and what to change.
    """
    study = plan.study
    if not here:
        resolved = Resolved(plan, facts, outline(study.model, study.shape), None)
        check_fits(study, resolved.model)
        check_budget(study, resolved.model)
        return resolved
    found = find(study.model, study.dtype)
    config = found.outlook.config
    ask_by(found.tokenizer, study.template or "none")
    require_rows(found.tokenizer, int(config.vocab_size), study.model)
    for spec in study.compressions:
        if spec.checkpoint is not None:
            look_checkpoint(spec.checkpoint, config, study.model)
    resolved = Resolved(plan, facts, outline_of(config), found)
    check_fits(study, resolved.model)
    check_budget(study, resolved.model)
    _check_lengths(study, facts, resolved.model, found.tokenizer)
    check_text(plan, found.tokenizer)
    return resolved


def model_notes(found: Found, template: str | None) -> tuple[str, ...]:
    """What has to be said of a model's file and of how its tokenizer is asked."""
    told = (found.note, template_note(found.tokenizer, template), ended_note(found.tokenizer))
    return tuple(filter(None, told))


def template_note(tokenizer: PreTrainedTokenizerBase, template: str | None) -> str:
    """A sentence where a chat model is asked as plain text because nobody said how; empty elsewhere."""
    if template is not None or not has_template(tokenizer):
        return ""
    return "the model has a chat template and is asked as plain text (template: chat asks through it)"


def _check_lengths(study: Study, facts: FactSet, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Every window and question has its place behind the longest prompt."""
    positions = spoken_positions(model)
    prompts = [
        (one.name, length)
        for one in study.repairs
        for length in (0, *work_of(one).lengths(one, model, tokenizer, study.model))
    ]
    name, prompt = max(prompts, key=lambda one: one[1])
    room = longest_content(model, prompt)
    behind = f"behind the {prompt} of {name} " if prompt else ""
    if study.drift.length > room:
        raise InputError(
            f"drift.length: {study.drift.length} tokens {behind}are more than the {positions} of '{study.model}': "
            f"lower it to {max(room, 0)} or shorten the prompt"
        )
    tokens, words = _longest(facts, tokenizer)
    if tokens > room:
        raise InputError(
            f"questions: '{words}' has {tokens} tokens, which {behind}are more than the {positions} of "
            f"'{study.model}': shorten the question or the prompt"
        )
    if facts.key is not None:
        tokens, words = _longest(facts, tokenizer, key=facts.key)
        if tokens > longest_content(model):
            raise InputError(
                f"questions: '{words}', with the key before it, has {tokens} tokens, which are more than the "
                f"{positions} of '{study.model}': shorten the question or the key"
            )


def _longest(facts: FactSet, tokenizer: PreTrainedTokenizerBase, *, key: str | None = None) -> tuple[int, str]:
    """Tokens and words of the longest question with a candidate answer behind it; all of them can be told apart."""
    people = facts.select(list(facts.groups))
    asked = [facts.items(people, phrasing, key=key) for phrasing in PHRASINGS]
    for items in asked:
        require_apart(tokenizer, items)
    longest = {one: max(one.answers, key=lambda answer: len(encode(tokenizer, f" {answer}"))) for one in facts.lists}
    pairs = [(item.question, longest[item.candidates]) for items in asked for item in items]
    encoded = encode_continuations(tokenizer, pairs)
    lengths = [len(question) + len(answer) for question, answer in encoded]
    place = max(range(len(pairs)), key=lengths.__getitem__)
    return lengths[place], " ".join(pairs[place])


def check_text(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> None:
    """Read every text that some cell will read, so that one too short is found before anything is written.

    Raises:
        InputError: naming the text and what it lacks.
    """
    study, fields = plan.study, plan.cells[0].fields
    for cell in plan.of("compressed"):
        settings = cell.fields["compression"]
        if settings["method"] != "checkpoint":
            calibration_blocks(tokenizer, cell.fields, CompressionSpec(**settings))
    if study.tuning.text_batch:
        tuning_blocks(tokenizer, fields, study.tuning.text_length, study.seeds[0], 1)
    heldout = text_as_planned(fields["text"], fields["text_sha"], "heldout")
    encode_blocks(tokenizer, heldout.paragraphs, study.drift.length)
