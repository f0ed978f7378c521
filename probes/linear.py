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
from scipy.special import log_softmax

from data.errors import InputError
from data.facts import Fact

Way = Literal["frozen", "refitted", "aligned"]
WAYS: tuple[Way, ...] = ("frozen", "refitted", "aligned")
GRADIENT = 1e-4
"""The fit stops where no entry of the gradient, a sum over items in nats, is larger."""
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
        answers = sorted(set(labels))
        if len(answers) < 2 or not strength > 0:
            raise InputError(
                f"a probe of {len(answers)} answers at L2 strength {strength} cannot be fitted: give facts with "
                "two answers or more, and a strength above 0"
            )
        states = np.asarray(states, dtype=float)
        mean, deviation = states.mean(axis=0), states.std(axis=0)
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        # The optimum lies in the span of the items: fewer dimensions, same probe.
        left, singular, right = np.linalg.svd((states - mean) * scale, full_matrices=False)
        target = np.array([[label == answer for answer in answers] for label in labels], dtype=float)
        reduced, bias = _regress(left * singular, target, strength)
        weights = scale[:, None] * (right.T @ reduced)
        return cls(weights, bias - mean @ weights, tuple(answers))

    def predict(self, states: Float[np.ndarray, "item width"]) -> list[str]:
        """Most likely answer of each item."""
        return [self.answers[best] for best in (states @ self.weights + self.bias).argmax(axis=1)]


def _regress(
    features: Float[np.ndarray, "item feature"], target: Float[np.ndarray, "item answer"], strength: float
) -> tuple[Float[np.ndarray, "feature answer"], Float[np.ndarray, " answer"]]:
    """Solve the convex problem by L-BFGS, from zero."""
    padded = np.column_stack([features, np.ones(len(features))])
    shape = (padded.shape[1], target.shape[1])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        penalised = np.vstack([weights[:-1], np.zeros_like(weights[:1])])
        log_probs = log_softmax(padded @ weights, axis=1)
        gradient = padded.T @ (np.exp(log_probs) - target) + strength * penalised
        return -(log_probs * target).sum() + strength / 2 * (penalised**2).sum(), gradient.ravel()

    options = {"maxiter": ITERATIONS, "gtol": GRADIENT, "ftol": 0.0}
    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    if np.abs(found.jac).max() > 100 * GRADIENT:
        raise RuntimeError(f"a probe did not converge (gradient {np.abs(found.jac).max():.1e}): {found.message}")
    weights = found.x.reshape(shape)
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


def read_linear(
    dense: Float[np.ndarray, "layer item width"],
    variant: Float[np.ndarray, "layer item width"],
    facts: Sequence[Fact],
    *,
    way: Way,
    strength: float = 1.0,
    control_seeds: Sequence[int] = (0, 1, 2),
) -> ProbeReading:
    """Fit on the tune and calibrate people of these facts, read the test people under a variant.

    `facts` name the items of both arrays in order; refitting does not look at `dense`. A test person whose answer
    no fitted person has cannot be read and is left out. Raises InputError where either side is empty or a relation
    has one answer only, ValueError where a person is on both sides.
    """
    fitted, read = _sides(facts)
    truths = [tuple(fact.answer for fact in facts), *(control_labels(facts, seed) for seed in control_seeds)]
    correct = np.zeros((len(truths), len(variant), len(facts)), dtype=bool)
    for layer, own in enumerate(variant):
        source = own if way == "refitted" else dense[layer]
        carried = Alignment.fit(own[fitted], source[fitted])(own) if way == "aligned" else own
        for truth, labels in enumerate(truths):
            for relation in dict.fromkeys(fact.relation for fact in facts):
                here = np.array([fact.relation == relation for fact in facts])
                fit, ask = np.flatnonzero(here & fitted), np.flatnonzero(here & read)
                if not len(ask):
                    continue
                probe = LinearProbe.fit(source[fit], [labels[place] for place in fit], strength=strength)
                said = probe.predict(carried[ask])
                correct[truth, layer, ask] = [word == labels[place] for word, place in zip(said, ask, strict=True)]
    return ProbeReading(np.flatnonzero(read), correct[0][:, read], correct[1:][:, :, read])


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
