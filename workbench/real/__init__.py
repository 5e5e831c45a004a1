"""Runs on real language models, and what they came to."""
