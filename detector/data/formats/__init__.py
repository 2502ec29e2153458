"""Formats of annotations: each file reads one into a PackedIndex and writes one from it."""
