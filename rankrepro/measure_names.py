"""Which measures there are, without the code that computes them: a plan asks for every name in a card.

`rankrepro.judge.measures` has the functions. A test keeps both lists equal.
"""

from __future__ import annotations

import re
from typing import Any

from rankrepro.errors import UnknownName

NAMES = frozenset(
    {
        "nDCG@10", "nDCG@5", "RR", "RR@10", "AP", "P@10", "R@10", "R@20", "R@100", "Success@1", "Judged@10",
        "Candidates-R", "MalformedRate", "value", "accuracy", "F1", "F0.5", "F2", "G-mean", "balanced_accuracy",
        "accuracy_x_minority", "F1_x_minority", "F0.5_x_minority", "F2_x_minority", "G-mean_x_minority",
        "balanced_accuracy_x_minority", "mAP-E", "mP@1-E", "mP@5-E", "mP@10-E", "mAP-M", "mP@1-M", "mP@5-M", "mP@10-M",
        "mAP-H", "mP@1-H", "mP@5-H", "mP@10-H", "PlaceRecall@1", "PlaceRecall25m@1", "PlaceRecall-seq2im@1",
        "PlaceRecall-im2seq@1", "PlaceRecall-seq2seq@1", "PlaceRecall@5", "PlaceRecall25m@5", "PlaceRecall-seq2im@5",
        "PlaceRecall-im2seq@5", "PlaceRecall-seq2seq@5", "PlaceRecall@10", "PlaceRecall25m@10", "PlaceRecall-seq2im@10",
        "PlaceRecall-im2seq@10", "PlaceRecall-seq2seq@10", "PlaceRecall@20", "PlaceRecall25m@20",
        "PlaceRecall-seq2im@20", "PlaceRecall-im2seq@20", "PlaceRecall-seq2seq@20", "TargetParameters", "Parameters",
        "ComputedBytes", "MeasuredBytes", "LearningRate", "ResidualSpread", "ByResidual", "StepsToBest", "Perplexity",
        "WithinAUC", "PooledAUC", "TPR@0.01", "TPR@0.05", "TPR@0.1", "TPR@0.2", "TPR@0.5",
        "InputTokens", "GeneratedTokens", "ForwardPasses", "Calls", "Seconds",
    }
)  # fmt: skip

# `fact:<name>`, or `fact:<name>:low` where lower is better. ir_measures parses names as Python; this is no
# Python, so none of its names can look like it.
FACT, LOW = "fact:", ":low"


CUT_OFF = re.compile(r"(nDCG|AP|RR|P|R|Success|Judged)@[1-9]\d*")  # known without importing ir_measures and numpy


def check(name: str, where: str = "") -> None:
    """UnknownName, with the nearest, for a measure that neither we nor ir_measures have; any name of a fact passes."""
    fact = name.startswith(FACT) and name.removeprefix(FACT).removesuffix(LOW)
    if name not in NAMES and not fact and not CUT_OFF.fullmatch(name):
        parsed(name, where)


def parsed(name: str, where: str = "") -> Any:
    """An ir_measures object that some installed provider can compute, of a name such as `nDCG@3` or `P(rel=2)@10`."""
    import ir_measures

    try:
        measure = ir_measures.parse_measure(name)
        cutoff = measure.params.get("cutoff", 1)
        usable = isinstance(cutoff, int) and cutoff > 0 and ir_measures.DefaultPipeline.supports(measure)
    except (NameError, ValueError, KeyError, TypeError, AssertionError, SyntaxError):
        usable = False
    if not usable:
        raise UnknownName("measure", name, NAMES, where)
    return measure
