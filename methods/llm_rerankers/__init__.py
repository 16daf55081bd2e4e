"""Re-ranking with language models: no training, or fine-tuning of one."""
