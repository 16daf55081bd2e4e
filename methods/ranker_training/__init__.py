"""Training of retrievers and rankers."""
