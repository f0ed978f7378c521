"""A prompt, a prefix or a LoRA in a folder of peft's, made elsewhere."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import InputError
from probes.adapter_folders import PROMPTS, folder_sha, method_of, read_adapter
from probes.prompts import save_prompts
from probes.repairs.base import ADAPTER, PREFIX, PROMPT, Making, Opening, RepairWork, Size
from probes.repairs.lora import KeptAdapter
from probes.repairs.prefix import KeptPrefix
from probes.repairs.prompt import KeptPrompt
from probes.specs.repairs.adapter import FolderSpec
from probes.variants import Variant

HELD: dict[str, RepairWork[Any]] = {PROMPT: KeptPrompt(), PREFIX: KeptPrefix(), ADAPTER: KeptAdapter()}
"""By what a cell keeps it in: how it is opened and written."""


def _place(spec: FolderSpec) -> Path:
    return Path(spec.path).expanduser()


class FolderWork(RepairWork[FolderSpec]):
    """Kept as the repairs made here are kept, and opened as what it turns out to be."""

    def make(self, spec: FolderSpec, making: Making, folder: Path) -> Size:
        """Keep what a folder of peft's holds.

        Raises:
            InputError: it cannot be read, or was made for another base than the model of this name.
        """
        found = read_adapter(_place(spec), making.model, making.name)
        if found.prompt is not None:
            save_prompts([found.prompt], folder / PROMPT)
        elif found.prefix is not None:
            save_prompts([found.prefix], folder / PREFIX)
        else:
            found.lora(making.model).save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
        return Size.of(found.tensors.values(), ())

    def open(self, spec: FolderSpec, opening: Opening) -> Variant:
        """As what it turned out to be."""
        return self._held(opening).open(spec, opening)

    def write(self, spec: FolderSpec, opening: Opening, to: Path) -> None:
        """As what it turned out to be."""
        self._held(opening).write(spec, opening, to)

    def lengths(
        self, spec: FolderSpec, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> list[int]:
        """Vectors of a prompt or a prefix; none of a LoRA."""
        found = read_adapter(_place(spec), model, name)
        held = found.prompt if found.prefix is None else found.prefix
        return [] if held is None else [len(held)]

    def check(self, spec: FolderSpec, model: PreTrainedModel, name: str) -> None:
        """Read the folder's small files and its tensors against the model's shape."""
        read_adapter(_place(spec), model, name)

    def sha(self, spec: FolderSpec) -> str:
        """Hash of the folder's files that shape what it is."""
        return folder_sha(_place(spec))

    def only_vectors(self, spec: FolderSpec) -> bool:
        """Where it holds a prompt."""
        return method_of(_place(spec)) in PROMPTS

    def _held(self, opening: Opening) -> RepairWork[Any]:
        made = [name for name in HELD if (opening.kept / name).exists()]
        if len(made) != 1:
            raise InputError(
                f"'{opening.kept}' holds {' and '.join(made) or 'no repair'}, and a cell makes one: delete the folder"
            )
        return HELD[made[0]]


REPAIR = FolderWork()
