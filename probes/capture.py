"""Read a model's tensors as they appear, keep none of them, and prove that they are the model's own.

Parity before drift: `parity` compares a backend's logits and sites with the plain-hook referee, and the
referee with what Hugging Face itself reports. No drift number counts for a model that has not passed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from data.errors import InputError
from probes.backends import BACKENDS, HOSTED, Batch, CaptureError, Reducer, as_reported, reported
from probes.sites import Kind, Site, module_at, require_site, sites_of, sizes_of

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-3}
"""Largest accepted gap in units of max(1, the row's largest value), by dtype.

A backend may order its sums otherwise and round elsewhere, layer upon layer. Measured on random models: 0 for
every family but GPT-2, whose fused layer the bridge splits; for that, over 12 layers, 1e-6 to 4.5e-5 the more
peaked its attention, and 2e-2 in bf16. A wrong tensor is off by tenths.
"""


class Recorder:
    """One model made ready to be read by one backend, for any number of batches.

    Making the bridge of TransformerLens takes many times a small pass, hence once. The model stays as it is.
    Raises InputError for an unknown backend, or a model of a family that cannot be hooked, or that lacks a part.
    """

    def __init__(self, model: PreTrainedModel, *, backend: str = "transformer_lens") -> None:
        there = BACKENDS | HOSTED
        if backend not in there:
            raise InputError(f"No capture backend {backend!r}; there are {', '.join(there)}.")
        for site in sites_of(model, Kind):
            module_at(model, site)
        self.model = model
        self.name = backend
        self._backend = there[backend](model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        del self._backend

    @torch.no_grad()
    def stream(
        self,
        inputs: Batch,
        sites: Iterable[Site],
        reducer: Reducer,
        *,
        logits_at: Int[Tensor, " kept"] | None = None,
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Run one forward pass and hand each site's tensor to the reducer as it appears, on the device of the inputs.

        A tensor has the axes that its kind names; rows of a pattern sum to one for real queries. Within a layer
        backends may differ in the order. `logits_at` gives the positions whose logits are wanted, from here and at
        the site of logits: all by default; an empty tensor of integers skips the language-model head. No gradients.

        Raises InputError for a site the model lacks, for patterns without eager attention, and for a model in
        training mode; CaptureError where a site fired other than once, or with other axes.
        """
        wanted = sorted(set(sites))
        self._check_ready(wanted)
        fired: Counter[Site] = Counter()

        def once(site: Site, tensor: Tensor) -> None:
            fired[site] += 1
            if fired[site] == 1:
                reducer(site, self._shaped(site, tensor, inputs, logits_at).to(inputs.embeds.device))

        logits = self._backend.run(inputs, wanted, once, logits_at)
        for site in wanted:
            if fired[site] != 1:
                raise CaptureError(f"{site} fired {fired[site]} times in one pass of {self.name}, expected 1.")
        return logits

    def _check_ready(self, sites: list[Site]) -> None:
        for site in sites:
            require_site(self.model, site)
        attention = self.model.config._attn_implementation
        if attention != "eager" and any(site.kind == Kind.PATTERN for site in sites):
            raise InputError(
                f"Attention patterns need eager attention and this model uses {attention!r}; "
                "open it with attn_implementation='eager'."
            )
        # Freshly injected adapters train although the model does not: their dropout would be noise.
        if any(module.training for module in self.model.modules()):
            raise InputError("The model, or an adapter in it, is in training mode; call model.eval() first.")

    def _shaped(self, site: Site, tensor: Tensor | None, inputs: Batch, logits_at: Tensor | None) -> Tensor:
        """Check the axes, and undo two flattenings: of batch and position, as OPT does, and of a layer's heads."""
        batch, position = inputs.attention_mask.shape
        kept = position if logits_at is None or site.kind.in_block else len(logits_at)
        sizes = sizes_of(self.model, batch, kept)
        expected = tuple(sizes[axis] for axis in site.kind.axes.split())
        flat = [(batch * position, *expected[2:])]
        if len(expected) == 4 and "position" in site.kind.axes:
            flat.append((batch, position, expected[2] * expected[3]))
        if tensor is not None and tensor.shape in flat:
            tensor = tensor.view(expected)
        if tensor is None or tensor.shape != expected:
            found = None if tensor is None else tuple(tensor.shape)
            raise CaptureError(f"{site} of {self.name} has shape {found}, expected {expected}.")
        return tensor

    def parity(self, inputs: Batch, sites: Iterable[Site]) -> "Parity":
        """Compare this backend with Hugging Face on one batch; see the function `parity`."""
        sites = sorted(set(sites))
        if self.model.dtype not in TOLERANCE:
            raise InputError(f"No parity tolerance is known for {self.model.dtype}.")
        real = inputs.attention_mask.bool()
        with Recorder(self.model, backend="hooks") as hooks:
            truth: dict[Site, Tensor] = {}
            hooks.stream(inputs, sites, truth.__setitem__)
        gaps: dict[Site, Gap] = {}

        def compare(site: Site, tensor: Tensor) -> None:
            gaps[site] = Gap.between(_rows(site, tensor, real), _rows(site, truth[site], real))

        logits = self.stream(inputs, sites, compare)
        theirs, plain = reported(self.model, inputs, sites)
        referee = {
            site: Gap.between(_rows(site, as_reported(self.model, site, truth[site]), real), _rows(site, tensor, real))
            for site, tensor in theirs.items()
        }
        return Parity(self.name, TOLERANCE[self.model.dtype], Gap.between(logits[real], plain[real]), gaps, referee)


def stream(
    model: PreTrainedModel,
    inputs: Batch,
    sites: Iterable[Site],
    reducer: Reducer,
    *,
    backend: str = "transformer_lens",
    logits_at: Int[Tensor, " kept"] | None = None,
) -> Float[Tensor, "batch kept vocabulary"]:
    """Run `Recorder.stream` once, on a Recorder made for this one pass."""
    with Recorder(model, backend=backend) as recorder:
        return recorder.stream(inputs, sites, reducer, logits_at=logits_at)


@dataclass(frozen=True)
class Gap:
    """How far two tensors that should be equal lie apart."""

    max_abs: float
    relative: float
    """Largest difference in units of max(1, largest value of its row): a huge token excuses itself alone."""

    @classmethod
    def between(cls, ours: Float[Tensor, "... value"], theirs: Float[Tensor, "... value"]) -> Self:
        """Measure the gap, in float32; anything that is not finite counts as infinitely far."""
        theirs = theirs.float()
        difference = (ours.float() - theirs).abs()
        relative = difference / theirs.abs().amax(-1, keepdim=True).clamp(min=1)
        worst = torch.stack([difference.max(), relative.max()]).nan_to_num(torch.inf, torch.inf).tolist()
        return cls(*worst)


@dataclass(frozen=True)
class Parity:
    """What `parity` found: the measured floor, to be stored with the numbers that rest on it."""

    backend: str
    tolerance: float
    """Largest accepted `Gap.relative`."""
    logits: Gap
    """The backend against plain Hugging Face."""
    sites: Mapping[Site, Gap]
    """The backend against plain hooks."""
    referee: Mapping[Site, Gap]
    """Plain hooks against Hugging Face's own `output_hidden_states` and `output_attentions`."""

    @property
    def max_abs_logits(self) -> float:
        """Largest difference of a logit, in nats."""
        return self.logits.max_abs

    @property
    def max_abs(self) -> dict[Site, float]:
        """Largest difference at each site, in the site's own unit."""
        return {site: gap.max_abs for site, gap in self.sites.items()}

    @property
    def worst(self) -> tuple[str, Gap]:
        """Where the relative gap is largest, in words, and that gap."""
        gaps = {"logits": self.logits} | {str(site): gap for site, gap in self.sites.items()}
        gaps |= {f"referee's {site}": gap for site, gap in self.referee.items()}
        return max(gaps.items(), key=lambda entry: entry[1].relative)

    @property
    def passed(self) -> bool:
        """Whether every gap is within the tolerance."""
        return self.worst[1].relative <= self.tolerance

    def require(self) -> Self:
        """Return self if everything agrees, else raise RuntimeError naming the place that agrees least."""
        if not self.passed:
            place, gap = self.worst
            raise RuntimeError(
                f"{self.backend} differs from Hugging Face by {gap.max_abs:.2g} at {place} "
                f"(relative {gap.relative:.2g}, accepted {self.tolerance:.0e}): its numbers cannot be used."
            )
        return self


def parity(
    model: PreTrainedModel, inputs: Batch, sites: Iterable[Site], *, backend: str = "transformer_lens"
) -> Parity:
    """Compare a backend's logits and sites with Hugging Face on the real positions of one batch.

    Holds every requested tensor of the batch at once: choose a small one. Raises as `Recorder.stream` does.
    """
    with Recorder(model, backend=backend) as recorder:
        return recorder.parity(inputs, sites)


def _rows(site: Site, tensor: Tensor, real: Bool[Tensor, "batch position"]) -> Float[Tensor, "real *rest"]:
    """Keep what belongs to real positions: a pad's own values mean nothing and kernels differ on them."""
    return (tensor.transpose(1, 2) if site.kind is Kind.PATTERN else tensor)[real]
