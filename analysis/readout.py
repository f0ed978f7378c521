"""What a model knows, read from its scores: calibrated bits per fact, and the recalibration arm.

Raw log-probabilities mix knowledge with habit, and may be sure and wrong. A relation's scores `s` become

    p = (1 - chance) softmax(s / temperature + bias[relation]) + chance * prior[relation]

fitted on *calibrate* entities; an item then holds `entropy(prior) + log2 p(answer)` bits, in the mean a lower
bound of the mutual information of question and answer: 0 where nothing is known, at most the entropy.

The bias is drawn towards `log prior - mean score / temperature`, the mean taken over the relation's items
without looking at answers: a habit shared by all items goes before any label is spent, and scores that say
nothing give back the prior. (Temperature: Guo et al. 2017, arXiv 1706.04599; batch calibration: Zhou et al.
2023, arXiv 2309.17249.) Fit on the group that is scored: chance is that group's share.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize, minimize_scalar
from scipy.special import entr, log_softmax

BIAS_DEVIATION = 0.5
"""Prior standard deviation of a bias. On planted worlds (20 candidates, 20 to 80 items a relation) 1 cost .10
to .18 bits where nothing is known and .5 .03; .25 fell behind on skewed answers under a uniform prior."""
TEMPERATURE_BOUNDS = (0.05, 20.0)
CHANCE_BOUNDS = (1e-3, 1.0)

Vectors = Mapping[str, Float[np.ndarray, "candidate"]]


@dataclass(frozen=True)
class ScoredItems:
    """Questions with scored candidates; each relation has one list of them, padded with -inf.

    `log_probs` are nats summed over the candidate's tokens, `answer` the right candidate's column, `priors`
    probabilities by relation (uniform unless given) and `prior` the same spread over the items; `vocabulary`
    is the right answer's log-probability over the full vocabulary, where that reading is wanted.
    """

    log_probs: Float[np.ndarray, "item candidate"]
    answer: Int[np.ndarray, "item"]
    relation: Sequence[str]
    entity: Sequence[str]
    priors: Vectors | None = None
    vocabulary: Float[np.ndarray, "item"] | None = None
    prior: Float[np.ndarray, "item candidate"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        vocabulary = self.answer * 0.0 if self.vocabulary is None else self.vocabulary
        lengths = {*map(len, (self.log_probs, self.answer, self.relation, self.entity, vocabulary))}
        if len(lengths) > 1 or lengths == {0}:
            raise ValueError(f"the columns of a table of items need one length above 0, got {lengths}")
        # A hair above zero is the rounding of a float32 softmax.
        if not (self.log_probs < np.inf).all() or not (vocabulary <= 1e-4).all():
            raise ValueError("a log-probability is NaN or above 0")
        present = np.isfinite(self.log_probs)
        for name, rows in self.rows().items():
            if (present[rows] != present[rows[0]]).any():
                raise ValueError(f"relation {name!r} has items with different candidates (-inf pads a list)")
        if self.answer.min() < 0 or self.answer.max() >= present.shape[1] or not self.right(present).all():
            raise ValueError("an answer is not among its relation's candidates")
        uniform = present / present.sum(axis=1, keepdims=True)
        prior = uniform if self.priors is None else self.spread(self.priors)
        if ((prior > 0) != present).any() or not np.allclose(prior.sum(axis=1), 1):
            raise ValueError("a prior must be positive on its relation's candidates alone, and sum to 1")
        object.__setattr__(self, "prior", prior)

    def rows(self) -> dict[str, Int[np.ndarray, "row"]]:
        """Give the rows of each relation."""
        relation = np.asarray(self.relation)
        return {str(name): np.flatnonzero(relation == name) for name in np.unique(relation)}

    def right(self, table: np.ndarray) -> np.ndarray:
        """Pick the right candidate's value out of an [item, candidate] table."""
        return table[np.arange(len(self.answer)), self.answer]

    def spread(self, vectors: Vectors) -> Float[np.ndarray, "item candidate"]:
        """Give every item its relation's vector; raises ValueError for a relation without one."""
        if missing := set(self.relation) - set(vectors):
            raise ValueError(f"nothing was fitted or given for the relation {min(missing)!r}")
        return np.stack([vectors[name] for name in self.relation])

    def where(self, kept: Bool[np.ndarray, "item"]) -> "ScoredItems":
        """Keep the items marked true."""
        relation, entity = (list(compress(names, kept)) for names in (self.relation, self.entity))
        vocabulary = None if self.vocabulary is None else self.vocabulary[kept]
        return ScoredItems(self.log_probs[kept], self.answer[kept], relation, entity, self.priors, vocabulary)


@dataclass(frozen=True)
class Readout:
    """The fitted map from scores to probabilities; `bias` holds [candidate] vectors by relation."""

    temperature: float
    chance: float
    bias: Vectors


def fit_readout(items: ScoredItems, *, ridge: float = BIAS_DEVIATION) -> Readout:
    """Fit temperature, chance and biases to the answers by L-BFGS-B, from two starts.

    `ridge` is the standard deviation of the Gaussian prior on a bias about its centre. One imaginary item
    answered by chance is added, so that 80 right answers do not promise an 81st.
    """
    scores = np.where(np.isfinite(items.log_probs), items.log_probs, 0.0).astype(float)
    scores -= scores.mean(axis=1, keepdims=True)
    groups = items.rows()
    mean = {name: scores[rows].mean(axis=0) for name, rows in groups.items()}
    members = np.stack([np.isin(np.arange(len(scores)), rows) for rows in groups.values()]).astype(float)
    right = np.eye(scores.shape[1])[items.answer]
    best = _minimum(Loss(scores - items.spread(mean), right, items.prior, members, ridge))
    temperature, bias = float(np.exp(best[0])), {}
    for (name, rows), deviation in zip(groups.items(), best[2:].reshape(len(groups), -1), strict=True):
        prior = items.prior[rows[0]]
        bias[name] = deviation + np.log(np.where(prior > 0, prior, 1)) - mean[name] / temperature
    return Readout(temperature, float(best[1]), bias)


@dataclass(frozen=True)
class Loss:
    """Negative log posterior of (log temperature, chance, deviations by relation) and its gradient."""

    scores: Float[np.ndarray, "item candidate"]
    right: Float[np.ndarray, "item candidate"]
    prior: Float[np.ndarray, "item candidate"]
    members: Float[np.ndarray, "relation item"]
    ridge: float

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Its value at some parameters, and the gradient there."""
        temperature, chance = np.exp(parameters[0]), parameters[1]
        deviation = parameters[2:].reshape(len(self.members), -1)
        # Absent candidates have no prior and so no share of the softmax.
        logits = np.where(self.prior > 0, self.scores / temperature + self.members.T @ deviation, -np.inf)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True)) * self.prior
        softmax = weights / weights.sum(axis=1, keepdims=True)
        known, guessed = (softmax * self.right).sum(axis=1), (self.prior * self.right).sum(axis=1)
        total = (1 - chance) * known + chance * guessed
        by_logit = ((1 - chance) * known / total)[:, None] * (self.right - softmax)
        by_temperature = -(by_logit * self.scores).sum() / temperature
        by_chance = ((guessed - known) / total).sum() + 1 / chance
        by_deviation = self.members @ by_logit - deviation / self.ridge**2
        value = np.log(total).sum() + np.log(chance) - (deviation**2).sum() / (2 * self.ridge**2)
        return -value, -np.concatenate([[by_temperature, by_chance], by_deviation.ravel()])


def _minimum(loss: Loss) -> Float[np.ndarray, "parameter"]:
    low, high = np.log(TEMPERATURE_BOUNDS)
    free = len(loss.members) * loss.scores.shape[1]
    bounds = [(low, high), CHANCE_BOUNDS] + [(None, None)] * free
    scale = np.log(max(loss.scores.std(), 1e-9))  # a start that moves with the scores' unit
    starts = [[np.clip(scale + up, low, high), share, *[0] * free] for up, share in ((0, 0.1), (1.5, 0.5))]
    fits = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    return min(fits, key=lambda fit: fit.fun).x


def calibrated_log_probs(readout: Readout, items: ScoredItems) -> Float[np.ndarray, "item candidate"]:
    """Give the readout's log-probabilities in nats; absent candidates stay at -inf."""
    with np.errstate(divide="ignore"):
        known = np.log1p(-readout.chance) + reweighted(readout, items)
        return np.logaddexp(known, np.log(readout.chance * items.prior))


def reweighted(readout: Readout, items: ScoredItems) -> Float[np.ndarray, "item candidate"]:
    """Give log softmax(score / temperature + bias) in nats: the readout without its chance mixture.

    A list of candidates that no fitted item has gets the bias towards which all are drawn, which needs no label.
    """
    bias = dict(readout.bias)
    scores = np.where(np.isfinite(items.log_probs), items.log_probs, 0.0)
    for name, rows in items.rows().items():
        if name not in bias:
            habit = (scores[rows] - scores[rows].mean(axis=1, keepdims=True)).mean(axis=0)
            prior = items.prior[rows[0]]
            bias[name] = np.log(np.where(prior > 0, prior, 1.0)) - habit / readout.temperature
    return log_softmax(items.log_probs / readout.temperature + items.spread(bias), axis=1)


def recalibrate(tune_items: ScoredItems, items: ScoredItems) -> Float[np.ndarray, "item candidate"]:
    """Run the recalibration arm, bias and temperature of *tune* entities: scores to read like a variant's."""
    return reweighted(fit_readout(tune_items), items)


def bits(calibrated: Float[np.ndarray, "item candidate"], items: ScoredItems) -> Float[np.ndarray, "item"]:
    """Give each item's bits from calibrated nats; only their mean lies in [0, entropy] up to noise."""
    return (entr(items.prior).sum(axis=1) + items.right(calibrated)) / np.log(2)


def cross_fitted_log_probs(
    fit_items: ScoredItems, score_items: ScoredItems, *, seed: int, folds: int = 5
) -> Float[np.ndarray, "item candidate"]:
    """Calibrate, in nats, fitted entities by folds and all others by the readout of all `fit_items`."""
    calibrated = np.empty(score_items.log_probs.shape)
    for kept, here in _splits(fit_items.entity, score_items.entity, folds, seed):
        readout = fit_readout(fit_items.where(kept))
        calibrated[here] = calibrated_log_probs(readout, score_items.where(here))
    return calibrated


def cross_fitted_bits(
    fit_items: ScoredItems, score_items: ScoredItems, *, seed: int, folds: int = 5
) -> Float[np.ndarray, "item"]:
    """Give the bits of every scored item under `cross_fitted_log_probs`."""
    return bits(cross_fitted_log_probs(fit_items, score_items, seed=seed, folds=folds), score_items)


def vocabulary_bits(
    fit_items: ScoredItems, score_items: ScoredItems, *, seed: int, folds: int = 5
) -> Float[np.ndarray, "item"]:
    """Give bits over the full vocabulary, p = (1 - chance) exp(vocabulary) + chance * prior, cross-fitted."""
    (fit_known, fit_prior), (known, prior) = _vocabulary(fit_items), _vocabulary(score_items)
    mixed = np.empty(len(prior))
    for kept, here in _splits(fit_items.entity, score_items.entity, folds, seed):
        chance = _fit_chance(fit_known[kept], fit_prior[kept])
        mixed[here] = (1 - chance) * known[here] + chance * prior[here]
    return entr(score_items.prior).sum(axis=1) / np.log(2) + np.log2(mixed)


def _vocabulary(items: ScoredItems) -> tuple[Float[np.ndarray, "item"], Float[np.ndarray, "item"]]:
    if items.vocabulary is None:
        raise ValueError("these items carry no log-probabilities over the full vocabulary")
    return np.exp(items.vocabulary), items.right(items.prior)


def _fit_chance(probability: Float[np.ndarray, "item"], prior: Float[np.ndarray, "item"]) -> float:
    def loss(chance: float) -> float:
        return -np.log((1 - chance) * probability + chance * prior).sum() - np.log(chance)

    return float(minimize_scalar(loss, bounds=CHANCE_BOUNDS, method="bounded").x)


def _splits(
    fit_entities: Sequence[str], score_entities: Sequence[str], folds: int, seed: int
) -> Iterator[tuple[Bool[np.ndarray, "fit"], Bool[np.ndarray, "score"]]]:
    names = sorted(set(fit_entities))
    if min(folds, len(names)) < 2:
        raise ValueError("cross-fitting needs at least two entities to fit on, and two folds")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[index]: place % folds for place, index in enumerate(order)}
    fit = np.array([fold_of[name] for name in fit_entities])
    score = np.array([fold_of.get(name, -1) for name in score_entities])  # -1: not fitted on, none left out
    for fold in np.unique(score):
        yield fit != fold, score == fold
