"""A learned choice among prompts: multinomial logistic regression on pooled hidden states.

1. Run the model without a prompt over tune questions; average its hidden states over the tokens.
2. The class of a question is the prompt behind which its right answer is likeliest.
3. Fit weights by L-BFGS on the log-likelihood with an L2 penalty (as scikit-learn's default, C = 1); features are
   standardised, the intercept is free.

The answers of tune facts train it; the facts it is tested on it never sees. What would count against it: doing no
better than the best single prompt.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor
from transformers import PreTrainedModel

from probes.families import family_of
from probes.idp import Cost, first_layers
from probes.inputs import build_inputs
from probes.selectors import required

RouterStates = Literal["first", "last"]
BATCH = 64


class RouterSelector:
    """Log-probabilities of the prompts given a question's mean hidden state."""

    def __init__(
        self,
        model: PreTrainedModel,
        states: RouterStates,
        weights: Float[np.ndarray, "feature+1 prompt"],
        shift: Float[np.ndarray, " feature"],
        scale: Float[np.ndarray, " feature"],
    ) -> None:
        self._model, self._states = model, states
        self._weights, self._shift, self._scale = weights, shift, scale

    @property
    def cost(self) -> Cost:
        """One block, or a pass."""
        return "first_layer" if self._states == "first" else "full_pass"

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        rows: Sequence[Sequence[int]],
        log_probs: Float[np.ndarray, "row prompt"] | None,
        states: RouterStates = "first",
    ) -> "RouterSelector":
        """Train on tune questions and the log-probability of the right answer behind each prompt.

        Raises:
            InputError: no tune facts.
        """
        log_probs = required("router", log_probs)
        reader = _reader(model, states)
        features = _pooled(reader, rows)
        shift, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        weights = fit_logistic((features - shift) / scale, log_probs.argmax(axis=1), log_probs.shape[1])
        return cls(reader, states, weights, shift, scale)

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Log-probability of being the right prompt, nats."""
        features = (_pooled(self._model, rows) - self._shift) / self._scale
        logits = features @ self._weights[:-1] + self._weights[-1]
        return torch.tensor(logits - logsumexp(logits, axis=1, keepdims=True))


def fit_logistic(
    features: Float[np.ndarray, "row feature"], classes: Int[np.ndarray, " row"], count: int, *, penalty: float = 1.0
) -> Float[np.ndarray, "feature+1 class"]:
    """Weights, the intercept last, that minimise -sum log p(class) + penalty / 2 |weights|^2: one minimum."""
    with_one = np.column_stack([features, np.ones(len(features))])
    target = np.eye(count)[classes]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, count)
        logits = with_one @ weights
        normaliser = logsumexp(logits, axis=1, keepdims=True)
        held = weights.copy()
        # A free intercept of a class that never occurs would run away; a trace of penalty stops it.
        held[-1] *= 1e-4
        loss = float((normaliser - logits)[target > 0].sum())
        loss += penalty / 2 * float((weights * held).sum())
        return loss, (with_one.T @ (np.exp(logits - normaliser) - target) + penalty * held).ravel()

    found = minimize(
        objective, np.zeros(with_one.shape[1] * count), jac=True, method="L-BFGS-B", options={"maxiter": 500}
    )
    return found.x.reshape(-1, count)


def _reader(model: PreTrainedModel, states: RouterStates) -> PreTrainedModel:
    """The model, or its first block alone."""
    if states == "last" or len(family_of(model).blocks_of(model)) == 1:
        return model
    return first_layers(model, 1)


@torch.no_grad()
def _pooled(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Float[np.ndarray, "row width"]:
    """Mean over each row's tokens of the last hidden state of this (cut) model, after its final norm."""
    means = []
    for first in range(0, len(rows), BATCH):
        inputs = build_inputs(model, rows[first : first + BATCH])
        hidden = model.base_model(**inputs.forward_arguments(), use_cache=False).last_hidden_state.float()
        weight = (inputs.content / inputs.content.sum(dim=1, keepdim=True)).to(hidden.dtype)
        means.append(torch.einsum("bp,bpw->bw", weight, hidden))
    return torch.cat(means).cpu().double().numpy()
