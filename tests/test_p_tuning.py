"""P-tuning: tuning lowers the loss, and the vectors that are kept say what the encoder said."""

from functools import partial
from typing import get_args

import pytest
import torch
from peft import PromptEncoderConfig, get_peft_model

from data.errors import InputError
from probes.p_tuning import EncodedPrompt
from probes.prompts import load_prompts, save_prompts
from probes.sharing import share_weights
from probes.specs.repairs.ptuning import EncoderKind, PTuningSpec
from probes.tuning import statement_rows, token_loss, tune
from probes.variants import Variant
from tests.tiny_models import WIDTH, tiny
from tests.tuning_rows import BUDGET, STATEMENTS

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
KINDS: tuple[EncoderKind, ...] = get_args(EncoderKind)
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_what_is_kept_is_what_the_encoder_made(model, tokenizer, kind, tmp_path):
    rows = statement_rows(tokenizer, STATEMENTS)
    encoder = EncodedPrompt(model, 4, kind=kind, seed=0)
    moved = list(encoder.parameters())
    log = tune(model, moved, rows, [], prompt=encoder, **(BUDGET | {"learning_rate": 0.02}))
    assert log[-1].loss < 0.7 * log[0].loss
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(one.grad is not None for one in moved)
    save_prompts([encoder().detach()], tmp_path / "kept")
    kept = load_prompts(tmp_path / "kept")[0]
    assert kept.shape == (4, WIDTH)
    assert token_loss(model, rows, kept).equal(token_loss(model, rows, encoder()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_kept_vectors_give_pefts_logits_with_the_encoder_still_there(model, kind):
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=3,
        encoder_reparameterization_type=kind.upper(),
        encoder_hidden_size=WIDTH,
    )
    theirs = get_peft_model(share_weights(model), config).eval()
    ours = EncodedPrompt(model, 3, kind=kind, seed=5)
    theirs.prompt_encoder["default"].load_state_dict(ours.encoder.state_dict())
    one = Variant("ptuning", model, None, prompt=ours().detach())  # type: ignore[arg-type]
    for row in ROWS:
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits[0, -1]
        assert_equal(one.logits([row])[0], expected)


def test_the_same_seed_gives_the_same_encoder_whatever_the_global_state():
    model, made = tiny("llama"), []
    for noise, seed in ((1, 0), (2, 0), (3, 1)):
        torch.manual_seed(noise)
        made.append(EncodedPrompt(model, 3, kind="lstm", width=8, seed=seed)())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_no_length_is_refused():
    with pytest.raises(InputError, match="length of 1 or more"):
        EncodedPrompt(tiny("llama"), 0, seed=0)


def test_names_tell_encoders_apart():
    names = [
        PTuningSpec(length=8, learning_rate=0.1, encoder=kind, encoder_width=width).name
        for kind in KINDS
        for width in (None, 64)
    ]
    assert names == ["ptuning-8", "ptuning-8-mlp64", "ptuning-8-lstm", "ptuning-8-lstm64"]
