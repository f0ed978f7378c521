"""nnsight's remote execution: a trace's block runs where a host (NDIF) holds the model, and sends its tensors back.

1. Here: which module each site is read at, and on which side of it, as plain words; a prompt is in the embeddings.
2. There: one pass, in which the block keeps those tensors. Nothing of ours travels but the words and the batch.
3. Here again: heads are split, and the reducer is called, once everything has come.

The host holds the hub's own weights, so a model that was copied, compressed or adapted is refused. Whether the host's
model is the local one in numbers is what the parity gate tells; that no module runs twice in a pass, its plain hooks.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from jaxtyping import Float, Int
from nnsight import CONFIG
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor
from transformers import PreTrainedModel

from data.errors import InputError
from probes.backends.nnsight_trace import in_turn
from probes.backends.protocol import Batch, CaptureError, Reducer, arguments, member_of, taken
from probes.families import Heads, family_of
from probes.hosted import hub_of
from probes.sharing import share_weights
from probes.sites import Site, module_name

Place = tuple[str, bool, int]
"""A module's dotted name, whether what it was given is read and not what it gave, and which member of a tuple."""


class NnsightRemoteBackend:
    """nnsight's trace of a hub's model, run by whoever holds that model.

    All tensors of a pass come back together, so a pass costs the memory of all its sites, there and here.
    Raises InputError for a model that is not the hub's own, weights and all, and without a key for the host.
    """

    remote: ClassVar[bool | str] = True
    """As nnsight takes it: True is the configured host, an address another, "local" its simulation in this process."""

    def __init__(self, model: PreTrainedModel) -> None:
        hub = hub_of(model)
        if hub is None:
            raise InputError(
                "nnsight_remote reads a model where the hub's weights are hosted, and this one was opened from files, "
                "copied or changed: open it by its hub name and leave it as it is, or use transformer_lens, nnsight or "
                "hooks"
            )
        # Not before: it loads nnsight's own wrapping of pipelines, which no other backend needs.
        from nnsight.modeling.transformers import TransformersModel

        self._require_key()
        self.model, self.hub = model, hub
        self.family, self.heads = family_of(model), Heads.of(model)
        # A pipeline moves its model to whatever device it is told, a GPU if none: this one is where it should be.
        self.traced = TransformersModel(share_weights(model), task="text-generation", device=model.device)
        self.traced.repo_id, self.traced.revision = hub.repository, hub.revision

    def run(
        self, inputs: Batch, sites: Sequence[Site], fire: Reducer, logits_at: Int[Tensor, " kept"] | None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Have one trace run.

        Raises:
            InputError: there is no key, or the host is out of reach or does not run the trace.
            CaptureError: a site's module was not called.
        """
        self._require_key()
        ordered = in_turn(sites)
        places = [(module_name(self.model, site), site.kind.reads == "input", member_of(site)) for site in ordered]
        batch = {"inputs_embeds": inputs.embeds, **arguments(inputs, logits_at)}
        # A tensor of a GPU would be sent with the number that the GPU has here.
        sent = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()}
        with self._one_line():
            values, logits = _traced(self.traced, self.remote, places, sent)
        device = inputs.embeds.device
        for site in ordered:
            # Let go of one by one: the reducer may keep something of each.
            fire(site, taken(site, self.family, self.heads, values.pop(0).detach().to(device)))
        return logits.detach().to(device)

    def _require_key(self) -> None:
        if self.remote != "local" and not CONFIG.API.APIKEY:
            raise InputError(
                "nnsight_remote needs a key of NDIF, which nnsight keeps: run `nnsight login`, or set NDIF_API_KEY"
            )

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Say in one line what came of a trace that did not run."""
        import httpx
        from nnsight.intervention.backends.remote import RemoteError
        from websocket import WebSocketException

        try:
            yield
        except OutOfOrderError as error:
            raise CaptureError(f"A site fired 0 times in one pass of nnsight_remote: {_last_line(error)}") from error
        except (RemoteError, WebSocketException, httpx.HTTPError, OSError) as error:
            raise InputError(
                f"nnsight_remote: the host did not run a pass of '{self.hub.repository}' ({_last_line(error)}); "
                "nnsight.ndif_status() tells what it holds"
            ) from error


def _traced(
    model: Any, remote: bool | str, places: Sequence[Place], batch: Mapping[str, Any]
) -> tuple[list[Tensor], Tensor]:
    """Run a batch and keep the tensors of these places.

    The block is what travels, as source, with every name that it reads: so it reads plain values alone, and says in
    words of Python what `first_given` and `taken` say.
    """
    with model.trace(remote=remote, **batch) as tracer:
        kept = []
        for name, given, member in places:
            module = model.get(name)
            if given:
                positional, keywords = module.inputs
                value = positional[0] if positional else keywords["hidden_states"]
            else:
                value = module.output
            kept.append(value[member] if isinstance(value, tuple) else value)
        kept.save()  # type: ignore[attr-defined]  # nnsight gives every object one
        logits = tracer.result.logits.save()
    return kept, logits


def _last_line(error: Exception) -> str:
    """A host tells a whole trace, whose last line says what happened."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
