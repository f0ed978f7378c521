"""A study: strict, frozen, read from YAML, and the one description of everything that shapes its numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from analysis.inside import PROMPT, Inside
from analysis.metrics.registry import BASIC, metric_groups
from analysis.scopes import ABLATIONS, MAIN
from analysis.study_blocks import Ablations, Budget, Name, Tasks, Transfer
from analysis.study_files import StudyFile
from analysis.study_strings import check_strings
from data.errors import InputError
from data.facts import FactSet
from data.paths import user_path
from probes.specs.compression import AnyCompression
from probes.specs.repairs.bank import MEMBER_SEEDS
from probes.specs.repairs.base import NamedRepair
from probes.specs.repairs.prompt import PromptSpec
from probes.specs.spec import Choices, Spec

SHIPPED = Path(__file__).parent.parent / "data" / "studies"
NAMED = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a study may be called: its folder is named after it, so no path can be spelled."""
LONGEST = 200
"""Letters of a name: with what is put behind it, it still names a file."""


class Tuning(Spec):
    """The budget that every tuned repair of a study gets."""

    steps: int = Field(ge=1, title="Tuning steps")
    batch: int = Field(ge=1, title="Training facts per step")
    text_batch: int = Field(default=0, ge=0, title="Plain-text sequences per step")
    text_length: int = Field(default=64, ge=2, title="Tokens per sequence")


Floor = Literal["batch_plan", "sdpa", "bfloat16", "calibration_draw"]


class Drift(Spec):
    """What drift is measured on, by which metrics, and against which noise."""

    questions: int = Field(default=48, ge=2, title="Drift: questions", description="held-out questions")
    windows: int = Field(default=16, ge=2, title="Plain-text sequences", description="of held-out text")
    length: int = Field(default=64, ge=4, title="Tokens per sequence")
    batch: int = Field(default=8, ge=1, title="Sequences per pass")
    backend: Literal["transformer_lens", "nnsight", "hooks", "nnsight_remote"] = "transformer_lens"
    around: Literal["all", "dense"] = Field(
        default="all", description="models whose variants are read: dense and every compressed copy, or dense alone"
    )
    metrics: Annotated[tuple[str, ...], Choices(lambda: dict.fromkeys(metric_groups(), ""))] = Field(
        default=(BASIC,), title="Drift metrics", description="groups of metrics"
    )
    detailed: int | None = Field(
        default=None,
        ge=1,
        description="replicates, from the first, in which more than basic is measured; all unless told",
    )
    floors: tuple[Floor, ...] = Field(
        default=("batch_plan",), title="Numerical noise floors", description="the same model twice, with this changed"
    )

    def in_replicate(self, place: int) -> "Drift":
        """The same in one replicate of a study, counted from 0: its metrics may be the basic ones alone."""
        return self if self.detailed is None or place < self.detailed else self.model_copy(update={"metrics": (BASIC,)})

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in named if name not in metric_groups()]:
            raise ValueError(f"there is no group {unknown[0]}; there are {', '.join(metric_groups())}")
        return named

    @model_validator(mode="after")
    def _check(self) -> "Drift":
        for name, always in (("metrics", BASIC), ("floors", "batch_plan")):
            if always not in getattr(self, name):
                raise ValueError(f"{name}: {always} is always measured; name it too")
        return self


class Study(Spec):
    """One comparison: a model, its damage, its repairs, the facts asked and the seeds of everything."""

    name: str = Field(
        pattern=NAMED,
        max_length=LONGEST,
        description="its run is called so, with some digits",
    )
    title: str = ""
    model: str = Field(description="atlas, a hub id, a folder, or a .gguf file")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", title="Precision")
    device: str = Field(
        default="cpu", pattern=r"^(cpu|cuda(:\d+)?|auto)$", description="cpu, cuda, or auto: over all GPUs"
    )
    threads: int = Field(default=1, ge=1, title="Threads per cell", description="part of what shapes the last bits")
    facts: str = Field(description="atlas, shipped, or a CSV file")
    fact_seed: int = 0
    candidates: int = Field(default=12, ge=2, description="longest list of candidate answers")
    relations: tuple[Name, ...] | None = None
    """Relations asked; all of them unless told."""
    groups: tuple[str, ...] = Field(title="Groups of facts", examples=[("open", "graded")])
    controls: tuple[Literal["locked", "never"], ...] = Field(
        default=(), description="known truth, atlas alone: hidden on purpose, never taught"
    )
    compress_controls: bool = Field(default=False, description="run the controls under every compression too")
    template: Literal["none", "chat"] | None = None
    """How facts and tasks are asked: as plain text (none), or through the tokenizer's own chat template. Unless told,
    as plain text, which is said of a model that has a template."""
    text: str = Field(description="for calibration: atlas, pydoc, hub:NAME, or a file")
    compressions: tuple[AnyCompression, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    """One replicate each: its own calibration draw and its own seed of every repair."""
    repairs: tuple[NamedRepair, ...] = Field(min_length=1)
    reported: tuple[str, ...] = Field(min_length=1, title="Repairs that get a verdict")
    """Names of the repairs whose verdicts count, named before the run."""
    tuning: Tuning
    placebos: int = Field(
        default=8, ge=8, le=1000, title="Random prompts", description="per setting, shared out over its replicates"
    )
    transfer: Transfer | None = None
    ablations: Ablations | None = None
    """How much of a repair is needed, on one compression; not asked unless told."""
    budget: Budget | None = None
    shape: dict[str, str | int | bool] | None = None
    """The model's shape in the words of its Hugging Face configuration; read by `--dry-run` alone, and only where the
    model is not on this machine."""
    drift: Drift = Drift()
    inside: Inside | None = None
    """What is read inside the variants beyond drift; nothing unless told."""
    tasks: Tasks | None = None
    """Standard tasks that the variants are scored on; none unless told."""
    score_batch: int = Field(default=64, ge=1, title="Questions per pass")

    @model_validator(mode="before")
    @classmethod
    def _check_strings(cls, stored: Any) -> Any:
        check_strings(stored)
        return stored

    @model_validator(mode="after")
    def _check(self) -> "Study":
        self._check_names()
        names = [repair.name for repair in self.repairs]
        self._check_reported(names)
        self._check_moved()
        self._check_ablations()
        self._check_budget()
        if not self._prompts:
            raise ValueError("repairs: one must be a prompt, since the placebo arms take its shape")
        if factless := [one.name for one in self.repairs if one.told != "true"]:
            raise ValueError(f"repairs: {', '.join(factless)} runs as a placebo in every study; leave it out")
        if self.compress_controls and not self.controls:
            raise ValueError("compress_controls: there are no controls; name them or leave it out")
        if self.controls and self.facts != "atlas":
            raise ValueError("controls: locked and never people live in the atlas alone; leave controls out")
        self._check_arms("inside", () if self.inside is None else self.inside.named)
        self._check_arms("tasks", () if self.tasks is None else self.tasks.repairs or ())
        if (self.model == "atlas") != (self.facts == "atlas"):
            raise ValueError("the atlas's facts and its model go together: name atlas for both or neither")
        return self

    def _check_names(self) -> None:
        """Refuse seeds, repairs and compressions that cannot be told apart."""
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: each may stand once")
        if not all(0 <= seed < MEMBER_SEEDS for seed in self.seeds):
            raise ValueError(
                f"seeds: each lies from 0 to {MEMBER_SEEDS - 1}; prompts of banks are seeded from there on"
            )
        names = [repair.name for repair in self.repairs]
        if len(set(names)) != len(names):
            raise ValueError(f"repairs: two are called the same ({', '.join(names)})")
        damages = [one.name for one in self.compressions]
        if len(set(damages)) != len(damages):
            raise ValueError(f"compressions: two are called the same ({', '.join(damages)}): give one a label")

    def _check_budget(self) -> None:
        """Refuse a budget set by what is not there, or by what is not tuned."""
        if self.budget is None or self.budget.to is None:
            return
        names = [repair.name for repair in self.repairs]
        if self.budget.to not in names:
            raise ValueError(f"budget.to: no repair is called {self.budget.to} (there are {names})")
        tuned = [repair.name for repair in self.repairs if repair.tuned]
        if self.budget.to not in tuned:
            raise ValueError(f"budget.to: {self.budget.to} is not tuned, so it sets no budget (tuned are {tuned})")

    def _check_reported(self, names: list[str]) -> None:
        """Refuse to report what is not there, and what is told the answers or the dense weights."""
        if unknown := set(self.reported) - set(names):
            raise ValueError(f"reported: no repair is called {', '.join(sorted(unknown))} (there are {names})")
        for repair in self.repairs:
            if repair.unreported and repair.name in self.reported:
                raise ValueError(f"reported: {repair.name} {repair.unreported}; leave it out")

    def _check_arms(self, block: str, named: Sequence[str]) -> None:
        """Refuse to read or score an arm that is not there."""
        if unknown := set(named) - {PROMPT, *self.arms}:
            there = ", ".join((PROMPT, *self.arms))
            raise ValueError(f"{block}: no arm is called {', '.join(sorted(unknown))}; there are {there}")

    def _check_moved(self) -> None:
        """Refuse to move what is not there or is no single tuned thing."""
        if self.transfer is None:
            return
        movable = [one.name for one in self.repairs if one.movable]
        if unknown := set(self.transfer.repairs or ()) - set(movable):
            raise ValueError(
                f"transfer.repairs: {', '.join(sorted(unknown))} is no prompt, prefix, p-tuning or LoRA of this study "
                f"(there are {movable})"
            )

    def _check_ablations(self) -> None:
        """Refuse ablations of a compression that is not there, or of repairs that cannot be told apart."""
        if self.ablations is None:
            return
        damages = [one.name for one in self.compressions]
        if self.ablations.compression not in (None, *damages):
            raise ValueError(
                f"ablations.compression: none is called {self.ablations.compression} (there are {damages})"
            )
        names = [one.name for one in self.ablated_repairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"ablations.repairs: two repairs are called {', '.join(twice)}, and are not the same")

    @property
    def ablated_compression(self) -> AnyCompression | None:
        """The one that ablations are of."""
        if self.ablations is None:
            return None
        wanted = self.ablations.compression
        return next(one for one in self.compressions if wanted in (None, one.name))

    @property
    def ablated_repairs(self) -> tuple[NamedRepair, ...]:
        """The study's own repairs, and those of which there is more or less; none without ablations."""
        if self.ablations is None:
            return ()
        return (*self.repairs, *(one for one in self.ablations.repairs if one not in self.repairs))

    @property
    def prompt(self) -> PromptSpec:
        """The first single prompt: the placebo arms have its length and learning rate."""
        return self._prompts[0]

    @property
    def _prompts(self) -> list[PromptSpec]:
        """The single prompts."""
        return [repair for repair in self.repairs if isinstance(repair, PromptSpec)]

    @property
    def moved(self) -> tuple[NamedRepair, ...]:
        """The repairs that are used where they were not tuned as well."""
        if self.transfer is None:
            return ()
        names = self.transfer.repairs or (self.prompt.name,)
        return tuple(one for one in self.repairs if one.name in names)

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the repairs, and of the placebos beside them, that can be read inside."""
        placebos = (f"placebo-{self.prompt.length}", *(prompt.name for prompt in self.factless_prompts))
        return (*placebos, *(repair.name for repair in self.repairs))

    @property
    def reportable(self) -> tuple[NamedRepair, ...]:
        """The repairs whose answers are evidence, those that are reported first: no bound, control or brought one."""
        found = [one for one in self.repairs if not one.unreported]
        return tuple(sorted(found, key=lambda one: one.name not in self.reported))

    @property
    def reinjections(self) -> tuple[NamedRepair, ...]:
        """The repairs that put back what the dense weights have: controls."""
        return tuple(repair for repair in self.repairs if repair.from_dense)

    @property
    def factless_prompts(self) -> tuple[PromptSpec, ...]:
        """The prompt tuned on text that states no fact: answers cut out, answers dealt to other subjects."""
        return tuple(self.prompt.model_copy(update={"answers": answers}) for answers in ("masked", "shuffled"))


def groups_of(study: Study) -> dict[str, list[str]]:
    """Groups asked in each scope."""
    ablated = {} if study.ablations is None else {ABLATIONS: list(study.groups)}
    return {MAIN: list(study.groups), **{control: [control] for control in study.controls}, **ablated}


def load_facts(study: Study) -> FactSet:
    """The facts a study asks for, checked against its groups."""
    facts = read_facts(study.facts, study.fact_seed, study.candidates, study.relations)
    if missing := set(study.groups) - set(facts.groups):
        raise InputError(
            f"study '{study.name}': no facts of group {', '.join(sorted(missing))}; there are {', '.join(facts.groups)}"
        )
    return facts


def read_facts(source: str, seed: int, candidates: int, relations: Sequence[str] | None = None) -> FactSet:
    """`atlas`, `world:FOLDER` (an organism's), `shipped`, or the path of a CSV file; all relations or those named."""
    found = _read_source(source, seed, candidates)
    return found if relations is None else found.only(relations)


def _read_source(source: str, seed: int, candidates: int) -> FactSet:
    if source == "atlas":
        from data.atlas import load_world

        return load_world().facts
    if source.startswith("world:"):
        from data.atlas import load_world

        return load_world(user_path(source.removeprefix("world:"))).facts
    from data import facts

    if source == "shipped":
        return facts.load_shipped(seed=seed, candidates=candidates)
    return facts.load_csv(user_path(source), seed=seed, candidates=candidates)


def shipped_studies() -> list[str]:
    """Names of the studies that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_study(name: str, changes: Sequence[str] = ()) -> Study:
    """Read a study by shipped name or YAML path and apply `key=value` changes (dotted keys, YAML values).

    Raises:
        InputError: naming the file, the key and what to do.
    """
    path = SHIPPED / f"{name}.yaml" if name in shipped_studies() else user_path(name)
    if not path.is_file():
        raise InputError(
            f"study '{name}': neither a YAML file nor one of the shipped studies ({', '.join(shipped_studies())})"
        )
    file = StudyFile.read(path, changes)
    try:
        # Through JSON's types, so that YAML lists count as tuples.
        return Study.model_validate(file.stored)
    except ValidationError as error:
        raise InputError(f"study '{name}': {file.fault(error)}") from None
