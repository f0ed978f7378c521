"""Ways of compressing a model: a file each, and their list in `registry.py`."""
