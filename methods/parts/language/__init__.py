"""Language models: prompts, caches, sampling, listwise windows."""
