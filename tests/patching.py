"""Places of a tiny model at which activations are patched."""

from probes.interventions import (
    Place,
)
from probes.sites import Kind, Site, sites_of
from tests.tiny_models import HEADS, LAYERS

KINDS = [Kind.RESID_PRE, Kind.ATTN_OUT, Kind.MLP_OUT, Kind.RESID_POST]


def places_of(model) -> list[Place]:
    """Every site of a kind that is patched, and every head."""
    heads = [Place(Site(layer, Kind.ATTN_OUT), head) for layer in range(LAYERS) for head in range(HEADS)]
    return [Place(site) for site in sites_of(model, KINDS)] + heads
