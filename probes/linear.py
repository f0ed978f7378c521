"""Linear knowledge probes: can the answer be read off a layer by a linear map, whatever the model then says?

Alain & Bengio, arXiv 1610.01644; control labels and selectivity: Hewitt & Liang, arXiv 1909.03368.

1. Take the residual stream after each block at the last content position of every question.
2. Per relation and layer, fit multinomial logistic regression on standardised features, fixed L2, on tune and
   calibrate people; read test people, whom the fit never saw.
3. Fit as many probes again on control labels: the answers of the relation dealt anew to its people.
   Selectivity is accuracy less control accuracy.
4. Read a variant in three ways. *Frozen*: the dense model's probe as it is. *Refitted*: a probe of the
   variant's own. *Aligned*: the dense probe after the rotation that best brings the variant's states to the
   dense model's (orthogonal Procrustes, on the people of the fit alone).

Answers are dealt to people independently, so a probe reads unseen people only where the state itself carries
their answer. What would count against "displaced": a refitted probe at its control's level in every layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import minimize

from data.errors import InputError
from data.facts import Fact

Way = Literal["frozen", "refitted", "aligned"]
WAYS: tuple[Way, ...] = ("frozen", "refitted", "aligned")
GRADIENT = 1e-3
"""The fit stops where no entry of the gradient, a sum over items in nats per unit of `_regress`, is larger."""
ITERATIONS = 2000


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe, its standardisation folded in."""

    weights: Float[np.ndarray, "width answer"]
    bias: Float[np.ndarray, " answer"]
    answers: tuple[str, ...]

    @classmethod
    def fit(cls, states: Float[np.ndarray, "item width"], labels: Sequence[str], *, strength: float) -> Self:
        """Minimise the summed cross-entropy plus strength / 2 times the squared weights; the bias goes free.

        Features are standardised first; one that does not vary gets no weight. Raises InputError for fewer
        than two different labels, RuntimeError where the optimum is not reached.
        """
        return cls.fit_all(states, [labels], strength=strength)[0]

    @classmethod
    def fit_all(
        cls, states: Float[np.ndarray, "item width"], labelings: Sequence[Sequence[str]], *, strength: float
    ) -> tuple[Self, ...]:
        """Fit a probe to each labelling of the same items, all with the same answers, in one go; raises as `fit`."""
        answers = sorted(set(labelings[0]))
        if len(answers) < 2 or not strength > 0:
            raise InputError(
                f"a probe of {len(answers)} answers at L2 strength {strength} cannot be fitted: give facts with "
                "two answers or more, and a strength above 0"
            )
        if any(sorted(set(labels)) != answers for labels in labelings):
            raise ValueError("labellings that are fitted together need the same answers")
        states = np.asarray(states, dtype=float)
        mean, deviation = states.mean(axis=0), states.std(axis=0)
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        # The optimum lies in the span of the items: fewer dimensions, same probe.
        left, singular, right = np.linalg.svd((states - mean) * scale, full_matrices=False)
        target = np.array([[[label == answer for answer in answers] for label in labels] for labels in labelings])
        reduced, biases = _regress(left, singular, target.transpose(1, 0, 2).astype(float), strength)
        fitted = []
        for place in range(len(labelings)):
            weights = scale[:, None] * (right.T @ reduced[:, place])
            fitted.append(cls(weights, biases[place] - mean @ weights, tuple(answers)))
        return tuple(fitted)

    def predict(self, states: Float[np.ndarray, "item width"]) -> list[str]:
        """Most likely answer of each item."""
        return [self.answers[best] for best in (states @ self.weights + self.bias).argmax(axis=1)]


def _regress(
    left: Float[np.ndarray, "item feature"],
    singular: Float[np.ndarray, " feature"],
    target: Float[np.ndarray, "item truth answer"],
    strength: float,
) -> tuple[Float[np.ndarray, "feature truth answer"], Float[np.ndarray, "truth answer"]]:
    """Solve the convex problems by L-BFGS, from zero, each variable in units of its own curvature.

    The Hessian of a softmax is at most a half of the features' squares, of which the singular values tell; measured:
    half the steps.
    """
    items, _, answers = target.shape
    padded = np.column_stack([left * singular, np.ones(items)])
    penalty = np.append(np.full(len(singular), strength), 0.0)
    unit = 1 / np.sqrt(np.append(singular**2, items) / answers + penalty)
    scaled, penalty = padded * unit, (penalty * unit**2)[:, None]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(len(unit), -1)
        logits = (scaled @ weights).reshape(target.shape)
        logits -= logits.max(axis=2, keepdims=True)
        odds = np.exp(logits)  # by hand: scipy's log_softmax takes most of the time of a fit
        total = odds.sum(axis=2, keepdims=True)
        gradient = scaled.T @ (odds / total - target).reshape(items, -1) + penalty * weights
        value = np.log(total).sum() - (logits * target).sum() + (penalty * weights**2).sum() / 2
        return value, gradient.ravel()

    start = np.zeros(len(unit) * target[0].size)
    options = {"maxiter": ITERATIONS, "gtol": GRADIENT, "ftol": 0.0, "maxcor": 20}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    gradient = np.abs(found.jac.reshape(len(unit), -1) / unit[:, None]).max()
    if gradient > 20 * GRADIENT:
        raise RuntimeError(f"a probe did not converge (gradient {gradient:.1e}): {found.message}")
    weights = found.x.reshape(len(unit), *target.shape[1:]) * unit[:, None, None]
    return weights[:-1], weights[-1]


@dataclass(frozen=True)
class Alignment:
    """A rotation (with reflection) about the means that carries one model's states into another's space."""

    source: Float[np.ndarray, " width"]
    rotation: Float[np.ndarray, "width width"]
    target: Float[np.ndarray, " width"]

    @classmethod
    def fit(cls, states: Float[np.ndarray, "item width"], target: Float[np.ndarray, "item width"]) -> Self:
        """Find the rotation by orthogonal Procrustes; directions in which no item varies go anywhere."""
        mean, goal = states.mean(axis=0), target.mean(axis=0)
        rotation, _ = orthogonal_procrustes(states - mean, target - goal)
        return cls(mean, rotation, goal)

    def __call__(self, states: Float[np.ndarray, "item width"]) -> Float[np.ndarray, "item width"]:
        """Carry states over."""
        return (states - self.source) @ self.rotation + self.target


def control_labels(facts: Sequence[Fact], seed: int) -> tuple[str, ...]:
    """Answers of each relation dealt anew to its subjects: each as often, one per subject throughout.

    Test people and the others are dealt their own answers, so that a control is as balanced on either side as
    the truth is. Raises ValueError where a subject has two answers to one relation.
    """
    groups: dict[tuple[str, bool], dict[str, str]] = {}
    for fact in facts:
        group = groups.setdefault((fact.relation, fact.split == "test"), {})
        if group.setdefault(fact.subject, fact.answer) != fact.answer:
            raise ValueError(f"{fact.subject} has two answers to '{fact.relation}': a control label needs one")
    draw = np.random.default_rng(seed)
    dealt = {
        key: dict(zip(group, draw.permutation(list(group.values())).tolist(), strict=True))
        for key, group in groups.items()
    }
    return tuple(dealt[fact.relation, fact.split == "test"][fact.subject] for fact in facts)


@dataclass(frozen=True)
class ProbeReading:
    """What the probes read of the people they were not fitted on."""

    places: Int[np.ndarray, " read"]
    """Which of the given items were read."""
    correct: Bool[np.ndarray, "layer read"]
    control: Bool[np.ndarray, "seed layer read"]
    """The same with control labels, each against its own."""

    @property
    def accuracy(self) -> Float[np.ndarray, " layer"]:
        """Share of items read rightly."""
        return self.correct.mean(axis=1)

    @property
    def selectivity(self) -> Float[np.ndarray, " layer"]:
        """Accuracy less control accuracy."""
        return self.accuracy - self.control.mean(axis=(0, 2))


@dataclass(frozen=True)
class ProbeSet:
    """Probes of one model's states: at every layer, for each relation, of the truth and of each control."""

    facts: tuple[Fact, ...]
    truths: tuple[tuple[str, ...], ...]
    """Labels of every item: the answers, then those of each control."""
    held: dict[tuple[int, str], tuple[LinearProbe, ...]]
    """By layer and relation, a probe per truth."""

    @classmethod
    def fit(
        cls,
        states: Float[np.ndarray, "layer item width"],
        facts: Sequence[Fact],
        *,
        strength: float = 1.0,
        control_seeds: Sequence[int] = (0, 1, 2),
    ) -> Self:
        """Fit on the tune and calibrate people of these facts.

        Raises:
            InputError: either side is empty, or a relation has one answer only.
            ValueError: a person is on both sides.
        """
        fitted, _ = _sides(facts)
        truths = (tuple(fact.answer for fact in facts), *(control_labels(facts, seed) for seed in control_seeds))
        held = {}
        for relation in dict.fromkeys(fact.relation for fact in facts):
            fit = np.flatnonzero(fitted & _of_relation(facts, relation))
            labelings = [[labels[place] for place in fit] for labels in truths]
            for layer, own in enumerate(states):
                held[layer, relation] = LinearProbe.fit_all(own[fit], labelings, strength=strength)
        return cls(tuple(facts), truths, held)

    def read(self, states: Float[np.ndarray, "layer item width"]) -> "ProbeReading":
        """Read the test people of a model's states, items in the order of the facts."""
        _, read = _sides(self.facts)
        correct = np.zeros((len(self.truths), len(states), len(self.facts)), dtype=bool)
        for (layer, relation), probes in self.held.items():
            ask = np.flatnonzero(read & _of_relation(self.facts, relation))
            if not len(ask):
                continue
            for truth, (probe, labels) in enumerate(zip(probes, self.truths, strict=True)):
                said = probe.predict(states[layer, ask])
                correct[truth, layer, ask] = [word == labels[place] for word, place in zip(said, ask, strict=True)]
        return ProbeReading(np.flatnonzero(read), correct[0][:, read], correct[1:][:, :, read])


def _of_relation(facts: Sequence[Fact], relation: str) -> Bool[np.ndarray, " item"]:
    return np.array([fact.relation == relation for fact in facts], dtype=bool)


def aligned(
    states: Float[np.ndarray, "layer item width"],
    target: Float[np.ndarray, "layer item width"],
    facts: Sequence[Fact],
) -> Float[np.ndarray, "layer item width"]:
    """Carry a model's states into another's space, layer by layer, by rotations found on the people of the fit."""
    fitted, _ = _sides(facts)
    pairs = zip(states, target, strict=True)
    return np.stack([Alignment.fit(own[fitted], goal[fitted])(own) for own, goal in pairs])


def _sides(facts: Sequence[Fact]) -> tuple[Bool[np.ndarray, " item"], Bool[np.ndarray, " item"]]:
    """Which items are fitted on and which are read, with nobody in both."""
    test = np.array([fact.split == "test" for fact in facts], dtype=bool)
    people = [{fact.subject for fact, there in zip(facts, side, strict=True) if there} for side in (test, ~test)]
    if both := people[0] & people[1]:
        raise ValueError(f"{sorted(both)[0]} is both fitted on and read: a probe would know the person")
    fitted = {(fact.relation, fact.answer) for fact in facts if fact.split != "test"}
    read = test & np.array([(fact.relation, fact.answer) in fitted for fact in facts], dtype=bool)
    if not read.any():
        raise InputError(
            "a probe needs people to be fitted on (tune, calibrate) and others to be read (test) who share answers "
            "with them: give a relation with fewer answers than people"
        )
    return ~test, read
