"""Selectors: which prompt of a bank is kept for a question (IDP, arXiv 2310.00867, section 3.2).

1. Each gives every prompt of a bank a score for every row, from the row's own tokens, never from an answer.
2. The prompt with the largest score is kept; of equal scores the first.

A file each, that ends in `SELECTION`; the list of them is `probes/specs/selectors.py`, `registry.py` brings both
together. What would count against attention, the paper's choice: any that knows nothing or costs less being as good.
"""
