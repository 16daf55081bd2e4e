"""Pictures: retrieval, places, captions, multimodal rankers."""
