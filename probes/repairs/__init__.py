"""How repairs are made, kept, opened, sized and written out.

A file each, which ends in `REPAIR`; what a study says of each stands under the same name in `probes/specs/repairs/`.
"""
