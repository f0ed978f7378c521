"""Benchmarks: ratios to the plain forward pass or to a peer, taken in one run; apart from the tests."""
