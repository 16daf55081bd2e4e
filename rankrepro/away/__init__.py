"""Runs on a machine without internet: packed here, run there, merged here.

    rankrepro pack FOLDER --scale gpu --papers icr,first     # what the jobs need, in pieces
    python run.py                                            # there: Python, torch and transformers are enough
    rankrepro merge FOLDER                                   # checked, and put into the store

`run` is the script that travels along: the standard library alone, for nothing else is sure to be there.
"""
