"""One module per paper: the mechanism and nothing else. Sees `rankrepro.cell` and `methods.parts` only."""
