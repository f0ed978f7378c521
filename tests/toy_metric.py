"""A metric as anyone would add one: the file of its reducer. Its entry stands in the test that lists it."""

from analysis.metrics.seen import Found, Reducer, Seen


def largest(seen: Seen) -> Found:
    """The largest entry of a sequence's states, whatever it is compared with."""
    values = seen.each(lambda ours: float(ours.abs().max()), seen.tensor)
    for name in seen.references:
        yield name, "toy_largest", values


REDUCER = Reducer(largest)
