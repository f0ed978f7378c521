"""What can be done with a repair: made, kept, opened, sized, written out. A kind does what it says here or otherwise.

What is kept of a repair is what its variant carries; an encoder that is dropped after tuning was moved and is not
kept, so both are counted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import InputError
from data.facts import FactSet
from probes.models import OpenedModel
from probes.prompts import load_prompts
from probes.specs.repairs.base import Repair
from probes.tokens import encode
from probes.tuning import Step, TuningRow, tune
from probes.variants import Variant

PROMPT, PREFIX, ADAPTER = "prompt.safetensors", "prefix.safetensors", "adapter"
"""What a cell that made a repair keeps it in."""


@dataclass(frozen=True)
class Size:
    """How large a repair is."""

    parameters_added: int
    """Numbers that its variant carries."""
    bytes_added: int
    """As they are stored, in the dtype they are used in; a small one's scales and places count."""
    parameters_tuned: int
    """Numbers that were moved while it was made."""

    @classmethod
    def of(cls, kept: Iterable[Tensor], tuned: Iterable[Tensor]) -> "Size":
        """Count what is kept and what was tuned."""
        held = list(kept)
        return cls(
            sum(one.numel() for one in held),
            sum(one.numel() * one.element_size() for one in held),
            sum(one.numel() for one in tuned),
        )


@dataclass(frozen=True)
class TuningData:
    """What a repair is tuned on, and the budget of it."""

    facts: list[TuningRow]
    text: list[TuningRow]
    seed: int
    budget: dict[str, Any]
    """Keywords of `tune`: steps, batch, text_batch."""

    def tune(self, model: PreTrainedModel, parameters: list[nn.Parameter], prompt: Any, rate: float) -> list[Step]:
        """Move the parameters."""
        return tune(
            model,
            parameters,
            self.facts,
            self.text,
            prompt=prompt,
            learning_rate=rate,
            seed=self.seed,
            **self.budget,
        )


@dataclass(frozen=True)
class Making:
    """What a repair that is not tuned is made from."""

    model: PreTrainedModel
    """The copy that it stands on."""
    name: str
    """By which the dense model is opened."""
    needs: dict[str, Path]
    """Folders of the cells that it is made from."""
    dense: Callable[[], PreTrainedModel]


@dataclass(frozen=True)
class Opening:
    """What a variant is opened from."""

    name: str
    """Of the variant."""
    parent: OpenedModel
    needs: dict[str, Path]
    """Folders of the cells that its repair was made in, by role."""
    seed: int | None
    """The repair's."""
    base: str
    """By which the dense model is opened."""
    scope: str
    """Whose facts it was tuned on."""
    facts: Callable[[], FactSet]
    groups: list[str]

    @property
    def kept(self) -> Path:
        """What the cell of a repair that stands alone keeps."""
        return self.needs["tuned0"]

    @property
    def drawn_with(self) -> int:
        """The repair's seed, which a variant of it has."""
        assert self.seed is not None
        return self.seed

    def variant(self, **carried: Any) -> Variant:
        """The parent with what a repair carries: a prompt, a bank or a prefix; with nothing, the parent itself."""
        return Variant(self.name, self.parent.model, self.parent.tokenizer, **carried)

    def under(self) -> OpenedModel:
        """What a bank stands over: the parent, or the parent with the adapter that was tuned before it."""
        if "adapter" not in self.needs:
            return self.parent
        from probes.lora import adapted, load_lora  # of the cells that have one, and of no other

        return replace(self.parent, model=adapted(load_lora(self.parent.model, self.needs["adapter"] / ADAPTER)))


R = TypeVar("R", bound=Repair)


class RepairWork(Generic[R]):
    """How repairs of one kind are made, opened, sized and written out; as one that makes nothing, unless told."""

    peft_prompt = "PROMPT_TUNING"
    """What peft calls the method by which its prompt is made."""

    def tune(self, model: PreTrainedModel, spec: R, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
        """Tune it over a frozen model and write what is kept of it; gives the loss curve and the sizes.

        Raises:
            InputError: a size that the model has no place for, nothing to read, or a loss that is no longer finite.
        """
        raise TypeError(f"a {spec.kind} is not tuned")

    def make(self, spec: R, making: Making, folder: Path) -> Size:
        """Make what is not tuned and write what is kept of it.

        Raises:
            InputError: what it is made from does not fit.
        """
        raise TypeError(f"a {spec.kind} is not made")

    def open(self, spec: R, opening: Opening) -> Variant:
        """The variant with it."""
        return opening.variant()

    def parameters(self, spec: R, model: PreTrainedModel) -> int | None:
        """Numbers that it will add to this model, whose weights may be missing; None for what is not tuned."""
        return None

    def lengths(self, spec: R, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> list[int]:
        """Tokens or slots that will stand before the content of a row, one number for each prompt.

        Args:
            spec: the repair.
            model: its weights may be missing.
            tokenizer: as questions are asked with it.
            name: by which the model is opened.
        """
        return [*spec.prompt_lengths, *(len(encode(tokenizer, text)) for text in spec.texts_said)]

    def check(self, spec: R, model: PreTrainedModel, name: str) -> None:
        """Refuse what was made for another model.

        Raises:
            InputError: it was.
        """

    def sha(self, spec: R) -> str:
        """Hash of the files that it was made in elsewhere.

        Raises:
            InputError: they are not there, or hold something else.
        """
        raise TypeError(f"a {spec.kind} has no files")

    def only_vectors(self, spec: R) -> bool:
        """Whether it is vectors before the content and nothing else, so that a model that is hosted can read it."""
        return False

    def write(self, spec: R, opening: Opening, to: Path) -> None:
        """Write it as a folder for use outside.

        Raises:
            InputError: peft has no form for it.
        """
        raise InputError(
            f"'{opening.name}' is no single prompt, prefix or adapter that was made: peft has no form for it"
        )


class VectorWork(RepairWork[R]):
    """What is kept as rows of numbers in one file, however they were made."""

    file: str
    """The file's name."""

    def carrying(self, vectors: Float[Tensor, "vector number"], opening: Opening) -> Variant:
        """The parent behind these vectors."""
        raise NotImplementedError

    def write_vectors(self, vectors: Float[Tensor, "vector number"], opening: Opening, to: Path) -> None:
        """Write them as a folder of peft's."""
        raise NotImplementedError

    def kept(self, spec: R, opening: Opening) -> Float[Tensor, "vector number"]:
        """The vectors as they are used, on the parent's device."""
        return load_prompts(opening.kept / self.file)[0].to(opening.parent.model.device)

    def open(self, spec: R, opening: Opening) -> Variant:
        """The parent behind what is kept."""
        return self.carrying(self.kept(spec, opening), opening)

    def write(self, spec: R, opening: Opening, to: Path) -> None:
        """Write what is kept as a folder of peft's."""
        self.write_vectors(self.kept(spec, opening), opening, to)
