"""nnsight: a trace whose block takes each tensor as the model makes it and hands it on."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from nnsight import NNsight
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor
from transformers import PreTrainedModel

from probes.backends.protocol import Batch, CaptureError, Reducer, arguments, first_given, taken
from probes.families import Heads, family_of
from probes.sharing import share_weights
from probes.sites import Kind, Site, module_name


class NnsightBackend:
    """nnsight on a copy that shares the model's weights: it puts a forward of its own on every module for good.

    Nothing is saved but the logits: the block of the trace runs beside the pass and lets go of every tensor once the
    reducer returns. A block sees a module's first call alone, hence the count of calls that nnsight keeps.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = share_weights(model)
        self.family, self.heads = family_of(model), Heads.of(model)
        self.traced = NNsight(self.model)

    def run(
        self, inputs: Batch, sites: Sequence[Site], fire: Reducer, logits_at: Int[Tensor, " kept"] | None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Run one trace.

        Raises CaptureError for a site whose module was called other than once.
        """
        ordered = in_turn(sites)
        before = {site: self._calls(site) for site in ordered}
        reached: list[Site] = []
        try:
            with self.traced.trace(inputs_embeds=inputs.embeds, **arguments(inputs, logits_at)) as tracer:
                for site in ordered:
                    fire(site, self.value(site))
                    reached.append(site)
                logits = tracer.result.logits.save()
        except OutOfOrderError as error:
            silent = ordered[len(reached)]
            raise CaptureError(f"{silent} fired 0 times in one pass of nnsight, expected 1.") from error
        for site in ordered:
            if (times := self._calls(site) - before[site]) != 1:
                raise CaptureError(f"{site} fired {times} times in one pass of nnsight, expected 1.")
        return logits

    def value(self, site: Site) -> Tensor:
        """A site's tensor, inside a trace."""
        envoy = self.traced.get(module_name(self.model, site))
        handled = first_given(*envoy.inputs) if site.kind.reads == "input" else envoy.output
        return taken(site, self.family, self.heads, handled)

    def _calls(self, site: Site) -> int:
        """How often the site's module was called in all traces so far."""
        envoy = self.traced.get(module_name(self.model, site))
        end = "input" if site.kind.reads == "input" else "output"
        return self.traced.interleaver.counts.get(f"{envoy.path}.{end}", 0)


def in_turn(sites: Sequence[Site]) -> list[Site]:
    """The sites in the order in which a pass hands their tensors over: the block of a trace has to ask in it."""
    return sorted(sites, key=lambda site: (site.layer, _moment(site.kind)))


def _moment(kind: Kind) -> float:
    """When a kind's tensor is handed over within its layer: a pattern when attention ends, after `head_out`."""
    return Kind.HEAD_OUT.turn + 0.5 if kind is Kind.PATTERN else kind.turn
