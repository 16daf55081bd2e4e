"""Training: the one loop, batches, losses of rankings, and what is trained of a model."""
