"""How each kind of tuned repair is started, moved and kept: one function a kind, and the files they leave.

What is kept of a repair is what its variant carries; an encoder that is dropped after tuning was moved and is not
kept, so both are counted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from probes.adapter_folders import read_adapter
from probes.lora import adapted, add_lora
from probes.p_tuning import EncodedPrompt
from probes.prefix_tuning import EncodedPrefix, TunedPrefix, draw_prefix
from probes.prompts import brought_prompts, draw_prompt, load_prompts, save_prompts
from probes.reinjection import reinject
from probes.small_prompts import keep_largest, quantise, save_small
from probes.specs.repairs import (
    FolderSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    QuantisedSpec,
    ReinjectionSpec,
    SmallSpec,
)
from probes.specs.spec import Spec
from probes.tuning import Step, TuningRow, tune

PROMPT, PREFIX, ADAPTER = "prompt.safetensors", "prefix.safetensors", "adapter"
SMALL_PROMPT, SMALL_PREFIX = "small-prompt.safetensors", "small-prefix.safetensors"


@dataclass(frozen=True)
class Size:
    """How large a repair is."""

    parameters_added: int
    """Numbers that the repaired variant carries beyond its parent's."""
    bytes_added: int
    """Bytes of those numbers as they are stored."""
    parameters_tuned: int
    """Numbers that were moved, those of a dropped encoder included."""

    @classmethod
    def of(cls, kept: Iterable[Tensor], tuned: Iterable[Tensor]) -> "Size":
        """Count what is kept and what was moved."""
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


def _prompt(model: PreTrainedModel, spec: PromptSpec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
    # Tuned in fp32 whatever the model's dtype, as LoRA is: in half precision small steps round to nothing.
    prompt = nn.Parameter(draw_prompt(model, spec.length, data.seed).float())
    log = data.tune(model, [prompt], prompt, spec.learning_rate)
    kept = prompt.detach().to(model.dtype)
    save_prompts([kept], folder / PROMPT)
    return log, Size.of([kept], [prompt])


def _p_tuning(model: PreTrainedModel, spec: PTuningSpec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
    encoder = EncodedPrompt(model, spec.length, kind=spec.encoder, width=spec.encoder_width, seed=data.seed)
    moved = list(encoder.parameters())
    log = data.tune(model, moved, encoder, spec.learning_rate)
    kept = encoder().detach().to(model.dtype)
    save_prompts([kept], folder / PROMPT)
    return log, Size.of([kept], moved)


def _prefix(model: PreTrainedModel, spec: PrefixSpec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
    moved: list[nn.Parameter]
    if spec.encoder_width is None:
        flat = nn.Parameter(draw_prefix(model, spec.length, data.seed).float())
        moved, made = [flat], lambda: flat
    else:
        encoder = EncodedPrefix(model, spec.length, spec.encoder_width, data.seed)
        moved, made = list(encoder.parameters()), encoder
    log = data.tune(model, moved, lambda: TunedPrefix(made(), model), spec.learning_rate)
    kept = made().detach().to(model.dtype)
    save_prompts([kept], folder / PREFIX)
    return log, Size.of([kept], moved)


def _lora(model: PreTrainedModel, spec: LoraSpec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
    lora = add_lora(model, rank=spec.rank, targets=spec.targets, seed=data.seed)
    moved = [one for one in lora.parameters() if one.requires_grad]
    log = data.tune(adapted(lora), moved, None, spec.learning_rate)
    lora.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
    return log, Size.of(moved, moved)


_TUNERS: dict[type[Spec], Callable[..., tuple[list[Step], Size]]] = {
    PromptSpec: _prompt,
    PrefixSpec: _prefix,
    PTuningSpec: _p_tuning,
    LoraSpec: _lora,
}


def tune_repair(model: PreTrainedModel, spec: Spec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
    """Tune one repair over a frozen model and write what is kept of it; gives the loss curve and the sizes.

    Raises:
        InputError: a size that the model has no place for, nothing to read, or a loss that is no longer finite.
    """
    return _TUNERS[type(spec)](model, spec, data, folder)


def make_small(spec: SmallSpec, whole: Path, folder: Path) -> Size:
    """Make a tuned prompt or prefix smaller; its size is that of what is stored, scales and places included.

    Raises:
        InputError: numbers that cannot be quantised, or none that would be kept.
    """
    prefix = isinstance(spec.of, PrefixSpec)
    (vectors,) = load_prompts(whole / (PREFIX if prefix else PROMPT))
    shape = tuple(vectors.shape)
    path = folder / (SMALL_PREFIX if prefix else SMALL_PROMPT)
    if isinstance(spec, QuantisedSpec):
        packed = quantise(vectors, spec.bits)
        save_small(packed, path, shape=shape, bits=spec.bits)
        count = vectors.numel()
    else:
        packed = keep_largest(vectors, spec.sparsity)
        save_small(packed, path, shape=shape)
        count = packed["values"].numel()
    return Size(count, sum(one.numel() * one.element_size() for one in packed.values()), 0)


def bring_bank(files: Sequence[str], folder: Path) -> Size:
    """Keep the prompts of several files as one bank."""
    prompts = brought_prompts([Path(file).expanduser() for file in files])
    save_prompts(prompts, folder / PROMPT)
    return Size.of(prompts, ())


def put_back(dense: PreTrainedModel, compressed: PreTrainedModel, spec: ReinjectionSpec, folder: Path) -> Size:
    """Write what compression took, as far as the rank goes, as an adapter; nothing is tuned."""
    repaired = reinject(dense, compressed, rank=spec.rank)
    repaired.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
    return Size.of((one for name, one in repaired.named_parameters() if "lora_" in name), ())


def bring(model: PreTrainedModel, name: str, spec: FolderSpec, folder: Path) -> Size:
    """Keep what a folder of peft's holds as the repairs made here are kept.

    Raises:
        InputError: it cannot be read, or was made for another base than the model of this name.
    """
    found = read_adapter(Path(spec.path).expanduser(), model, name)
    if found.prompt is not None:
        save_prompts([found.prompt], folder / PROMPT)
    elif found.prefix is not None:
        save_prompts([found.prefix], folder / PREFIX)
    else:
        found.lora(model).save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
    return Size.of(found.tensors.values(), ())
