"""Pre-training, fine-tuning and losses that are not about ranking."""
