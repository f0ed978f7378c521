"""Models and instruments. Imports only `data`."""

from probes.allocator import keep_large_pieces_apart

# Before the first tensor: what the heap has grown to by then is used again, and never given back.
keep_large_pieces_apart()
