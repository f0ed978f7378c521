"""One soft prompt that an encoder made (Liu et al., arXiv 2103.10385): the encoder is dropped after tuning."""

from pathlib import Path

from transformers import PreTrainedModel

from probes.p_tuning import EncodedPrompt
from probes.prompts import save_prompts
from probes.repairs.base import PROMPT, Size, TuningData
from probes.repairs.prompt import KeptPrompt
from probes.specs.repairs.ptuning import PTuningSpec
from probes.tuning import Step


class PTuningWork(KeptPrompt[PTuningSpec]):
    """A prompt whose encoder is moved."""

    peft_prompt = "P_TUNING"

    def tune(
        self, model: PreTrainedModel, spec: PTuningSpec, data: TuningData, folder: Path
    ) -> tuple[list[Step], Size]:
        """The encoder's weights are moved, and what it makes is kept."""
        encoder = EncodedPrompt(model, spec.length, kind=spec.encoder, width=spec.encoder_width, seed=data.seed)
        moved = list(encoder.parameters())
        log = data.tune(model, moved, encoder, spec.learning_rate)
        kept = encoder().detach().to(model.dtype)
        save_prompts([kept], folder / PROMPT)
        return log, Size.of([kept], moved)

    def parameters(self, spec: PTuningSpec, model: PreTrainedModel) -> int:
        """Tokens by width: what is kept."""
        return spec.length * int(model.config.hidden_size)


REPAIR = PTuningWork()
