"""Kinds of models, a module each: `causal-lm` in config/artifacts.yaml is `causal_lm.py`, and nothing else names it.

    imports()                            import what `load` needs, so that imports are timed apart from loading
    load(spec, device, dtype, mixed)     the LoadedModel; OSError, ValueError or KeyError for files that cannot be read
    stand_in(artifact, texts, folder)    a miniature with random weights in the hub's layout of files, for a rehearsal;
                                         `texts` train its tokenizer. ConfigError where there is none

`load`, and what of rankrepro.models and rankrepro.passes it can reach, is part of a model's digest.
Torch and transformers are imported inside of functions.
"""
