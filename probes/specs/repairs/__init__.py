"""Repairs, and the arms that stand beside them, as frozen values: what each is called, how large it is, what it needs.

A file each, torch-free, listed in `registry.py`; how each is made and opened stands under the same name in
`probes/repairs/`.
"""
