"""Weights: where they lie, how they are read, renamed, loaded and kept."""
