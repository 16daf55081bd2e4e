"""rankrepro: a benchmark and reproducibility suite for neural ranking."""

__version__ = "0.1.0"
