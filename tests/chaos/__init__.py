"""Disturb runs of a toy paper in every way that has a name, and see the same command bring the same results.

`make chaos`, or with tests/ on the path: `python -m chaos --help`.
"""
