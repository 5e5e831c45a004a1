"""Runs and studies on real language models, and their tables."""
