"""One soft prompt, tuned (Lester et al., arXiv 2104.08691)."""

from pathlib import Path
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from probes.prompts import SoftPrompt, draw_prompt, save_prompts
from probes.repairs.base import PROMPT, Opening, Size, TuningData, VectorWork
from probes.specs.repairs.base import Repair
from probes.specs.repairs.prompt import PromptSpec
from probes.tuning import Step
from probes.variants import Variant

R = TypeVar("R", bound=Repair)


class KeptPrompt(VectorWork[R]):
    """What leaves one prompt in a file, however it was made."""

    file = PROMPT

    def carrying(self, vectors: SoftPrompt, opening: Opening) -> Variant:
        """The parent behind the prompt."""
        return opening.variant(prompt=vectors)

    def only_vectors(self, spec: R) -> bool:
        """Yes."""
        return True

    def write_vectors(self, vectors: SoftPrompt, opening: Opening, to: Path) -> None:
        """As a folder of peft's."""
        from probes.adapter_folders import write_prompt  # of export alone, and not of every cell with a prompt

        write_prompt(to, vectors, opening.parent.model, opening.base, self.peft_prompt)


class PromptWork(KeptPrompt[PromptSpec]):
    """A prompt whose vectors are moved themselves."""

    def tune(self, model: PreTrainedModel, spec: PromptSpec, data: TuningData, folder: Path) -> tuple[list[Step], Size]:
        """Tuned in fp32 whatever the model's dtype, as LoRA is: in half precision small steps round to nothing."""
        prompt = nn.Parameter(draw_prompt(model, spec.length, data.seed).float())
        log = data.tune(model, [prompt], prompt, spec.learning_rate)
        kept = prompt.detach().to(model.dtype)
        save_prompts([kept], folder / PROMPT)
        return log, Size.of([kept], [prompt])

    def parameters(self, spec: PromptSpec, model: PreTrainedModel) -> int:
        """Tokens by width."""
        return spec.length * int(model.config.hidden_size)


REPAIR = PromptWork()
