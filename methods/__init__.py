"""One module per paper: the mechanism and nothing else.

It imports `rankrepro.cell`, `rankrepro.errors` and `methods.parts` alone.
"""
