"""Adapters that run the strategies inside other trainers; each needs its own package."""
