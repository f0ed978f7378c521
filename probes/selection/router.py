"""A learned choice among prompts: multinomial logistic regression on pooled hidden states.

1. Run the model without a prompt over tune questions; pool its hidden states: their mean over the tokens, or the last
   token's, where the question is complete.
2. The class of a question is the prompt behind which its right answer is likeliest.
3. Fit weights by L-BFGS on the log-likelihood with an L2 penalty; features are standardised, the intercept is free.
4. Choose pooling and penalty by what the kept prompts say of the right answers where phrasing and entity were left
   out: the best pooling, and of penalties within one standard error of its best the largest (Hastie, Tibshirani and
   Friedman, The Elements of Statistical Learning, section 7.10). On the atlas's planted bank a penalty of 1 on means,
   without this step, kept the right prompt in a new phrasing for .09 of the questions: it had learned the phrasings.

The answers of tune facts train it; the facts it is tested on, and their phrasing, it never sees. What would count
against it: doing no better than the best single prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor
from transformers import PreTrainedModel

from data.facts import Fact
from probes.families import family_of
from probes.inputs import build_inputs
from probes.selection.base import Material, PromptSelector, Selection, required
from probes.selection.cut import first_layers
from probes.specs.repairs.idp import RouterStates
from probes.specs.selectors import Cost, SelectorKind

Pooling = Literal["mean", "last_token"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
FOLDS = 5
BATCH = 64


class RouterSelector:
    """Log-probabilities of the prompts given a question's pooled hidden state."""

    def __init__(
        self,
        model: PreTrainedModel,
        states: RouterStates,
        pooling: Pooling,
        penalty: float,
        fitted: "_Fitted",
    ) -> None:
        self._model, self._states, self._fitted = model, states, fitted
        self.pooling, self.penalty = pooling, penalty

    @property
    def cost(self) -> Cost:
        """One block, or a pass."""
        return "first_layer" if self._states == "first" else "full_pass"

    @classmethod
    def fit(
        cls,
        model: PreTrainedModel,
        rows: Sequence[Sequence[int]],
        log_probs: Float[np.ndarray, "row prompt"],
        states: RouterStates = "first",
        *,
        groups: Int[np.ndarray, "row grouping"] | None = None,
    ) -> "RouterSelector":
        """Train on tune questions and the log-probability of the right answer behind each prompt.

        `groups` numbers what a question may not share with those that it is tried by, such as its phrasing and its
        entity; every fifth question by default.
        """
        groups = np.empty((len(rows), 0), dtype=int) if groups is None else groups
        groups = groups[:, (groups != groups[:1]).any(axis=0)]  # what all questions share parts none
        groups = groups if groups.shape[1] else np.arange(len(rows))[:, None] % FOLDS
        reader = _reader(model, states)
        features = _pooled(reader, rows)
        tried = {pooling: choose_penalty(features[pooling], log_probs, groups) for pooling in POOLINGS}
        pooling = max(POOLINGS, key=lambda one: tried[one][1])
        penalty = tried[pooling][0]
        return cls(reader, states, pooling, penalty, _Fitted.to(features[pooling], log_probs, penalty))

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Log-probability of being the right prompt, nats."""
        return torch.tensor(self._fitted.log_probs(_pooled(self._model, rows)[self.pooling]))


@dataclass(frozen=True)
class _Fitted:
    """A logistic regression with the standardisation of its features."""

    weights: Float[np.ndarray, "feature+1 prompt"]
    shift: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]

    @classmethod
    def to(
        cls, features: Float[np.ndarray, "row feature"], log_probs: Float[np.ndarray, "row prompt"], penalty: float
    ) -> "_Fitted":
        shift, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        classes, count = log_probs.argmax(axis=1), log_probs.shape[1]
        return cls(fit_logistic((features - shift) / scale, classes, count, penalty=penalty), shift, scale)

    def log_probs(self, features: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row prompt"]:
        logits = (features - self.shift) / self.scale @ self.weights[:-1] + self.weights[-1]
        return logits - logsumexp(logits, axis=1, keepdims=True)


def choose_penalty(
    features: Float[np.ndarray, "row feature"],
    log_probs: Float[np.ndarray, "row prompt"],
    groups: Int[np.ndarray, "row grouping"],
    penalties: Sequence[float] = PENALTIES,
) -> tuple[float, float]:
    """The largest penalty within one standard error of the best, and the best's mean log-probability left out, nats.

    A row is tried by what was fitted on rows that share none of its groups. Where there are none, the largest.
    """
    kept = {penalty: _left_out(features, log_probs, groups, penalty) for penalty in penalties}
    if not len(kept[penalties[0]]):
        return max(penalties), float("-inf")
    best = max(penalties, key=lambda one: kept[one].mean())
    behind = {penalty: kept[best] - kept[penalty] for penalty in penalties}
    within = [one for one in penalties if behind[one].mean() <= behind[one].std() / len(kept[best]) ** 0.5]
    return max(within), float(kept[best].mean())


def _left_out(
    features: Float[np.ndarray, "row feature"],
    log_probs: Float[np.ndarray, "row prompt"],
    groups: Int[np.ndarray, "row grouping"],
    penalty: float,
) -> Float[np.ndarray, " tried"]:
    """Log-probability of the right answer behind the prompt that was kept, of every row that can be left out."""
    found = []
    for one in np.unique(groups, axis=0):
        out, others = (groups == one).all(axis=1), (groups != one).all(axis=1)
        if others.any():
            chosen = _Fitted.to(features[others], log_probs[others], penalty).log_probs(features[out]).argmax(axis=1)
            found.append(log_probs[out][np.arange(len(chosen)), chosen])
    return np.concatenate(found) if found else np.empty(0)


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
def _pooled(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> dict[Pooling, Float[np.ndarray, "row width"]]:
    """The last hidden state of this (cut) model, after its final norm, pooled over each row's tokens in every way."""
    found: dict[Pooling, list[Tensor]] = {pooling: [] for pooling in POOLINGS}
    for first in range(0, len(rows), BATCH):
        inputs = build_inputs(model, rows[first : first + BATCH])
        hidden = model.base_model(**inputs.forward_arguments(), use_cache=False).last_hidden_state.float()
        weight = (inputs.content / inputs.content.sum(dim=1, keepdim=True)).to(hidden.dtype)
        found["mean"].append(torch.einsum("bp,bpw->bw", weight, hidden))
        found["last_token"].append(hidden[:, -1])  # padding stands in front
    return {pooling: torch.cat(parts).cpu().double().numpy() for pooling, parts in found.items()}


def _fitted(kind: SelectorKind, found: Material, states: RouterStates) -> RouterSelector:
    """What is not fitted is chosen by leaving out a phrasing and half of the entities."""
    tune = required(kind, found.tune)
    return RouterSelector.fit(found.model, tune.rows, tune.log_probs, states, groups=tune.groups)


def _made(kind: SelectorKind, found: Material, people: Sequence[Fact]) -> RouterSelector:
    return _fitted(kind, found, found.repair.states)


def _compared(
    kinds: Sequence[SelectorKind], found: Material, people: Sequence[Fact]
) -> Iterator[tuple[str, PromptSelector]]:
    """One that reads the first layer, and one that reads the last, whichever the repair has."""
    for kind in kinds:
        yield kind.name, _fitted(kind, found, "first")
        yield f"{kind.name}-last", _fitted(kind, found, "last")


SELECTION = Selection(_made, compare=_compared)
