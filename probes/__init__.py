"""Models and instruments. Imports only `data`."""
