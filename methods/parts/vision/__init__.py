"""Pictures through a vision model."""
