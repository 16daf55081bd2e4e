"""Retrieval: lexical and dense scores, the best documents, outputs."""
