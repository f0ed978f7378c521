"""The one list of selectors: a new one is a file in `probes/selection/` and an entry here.

It says of each what a study, a plan or a page has to know, without torch; how it is made stands in its file.
"""

from dataclasses import dataclass
from typing import Literal

from probes.specs.registry import Registry

Cost = Literal["none", "first_layer", "full_pass", "full_pass_per_prompt"]
"""What a choice costs beyond the answer's own pass: embeddings at most, one block, one pass, one pass per prompt."""
Need = Literal["nothing", "tune facts", "clusters", "answers elsewhere"]
"""What it is made from beside the bank: nothing; tune facts asked behind every prompt; the centres of the different
texts that the prompts were tuned on; the right answers to another phrasing of what is asked."""


@dataclass(frozen=True)
class SelectorKind:
    """One way of choosing among the prompts of a bank."""

    name: str
    """As a study names it, as tables have it, and a part of the repair's spoken name."""
    words: str
    """What it keeps, in one sentence, for pages."""
    cost: Cost
    """With the usual settings; a selector that was made says its own."""
    needs: Need = "nothing"
    bound: bool = False
    """Looks at the answer to what is asked: shows what a choice could give, and is never reported as a repair."""
    rowless: bool = False
    """Keeps no prompt for an arbitrary text, so that a variant cannot be read row by row."""
    keeps_all: bool = False
    """Chooses nothing: the answer is the mean of the probabilities over all prompts."""
    settings: tuple[str, ...] = ()
    """The fields of `IdpSpec` that it reads; one that is not the usual is a part of the repair's name."""
    module: str = ""
    """Where `SELECTION` says how it is made; `probes.selection.NAME` unless told."""

    @property
    def made_in(self) -> str:
        """The module that makes it."""
        return self.module or f"probes.selection.{self.name}"


OUTPUTS = "probes.selection.outputs"
_SELECTORS = Registry(
    "selector",
    (
        SelectorKind(
            "attention",
            "the prompt that the question pays most attention to (the IDP paper's choice)",
            "first_layer",
            settings=("layers", "heads", "queries", "per_token", "softmax"),
        ),
        SelectorKind("random", "a prompt drawn from a hash of the question", "none"),
        SelectorKind("fixed", "one prompt for all questions: the best on training facts", "none", "tune facts"),
        SelectorKind("key", "the prompt whose mean vector has the largest cosine with the question's", "none"),
        SelectorKind("cluster", "the prompt tuned on the questions whose centre is nearest", "none", "clusters"),
        SelectorKind(
            "oracle",
            "the prompt that answers another phrasing of the same fact best: it looks at the answer, so it is a bound",
            "full_pass_per_prompt",
            "answers elsewhere",
            bound=True,
            rowless=True,
        ),
        SelectorKind(
            "router",
            "the prompt named by a classifier of hidden states trained on training facts",
            "first_layer",
            "tune facts",
            settings=("states",),
        ),
        SelectorKind(
            "likelihood", "the prompt behind which the question is likeliest", "full_pass_per_prompt", module=OUTPUTS
        ),
        SelectorKind(
            "entropy",
            "the prompt behind which the next token has the least entropy",
            "full_pass_per_prompt",
            module=OUTPUTS,
        ),
        SelectorKind(
            "margin",
            "the prompt with the largest gap between the two likeliest next tokens",
            "full_pass_per_prompt",
            module=OUTPUTS,
        ),
        SelectorKind(
            "mixture",
            "no choice: the mean of the probabilities over all prompts",
            "full_pass_per_prompt",
            rowless=True,
            keeps_all=True,
        ),
    ),
)


selectors = _SELECTORS.every
selector_of = _SELECTORS.of
registered = _SELECTORS.with_one_more
