"""Rollouts and beams drawn from a policy, and its probabilities of all items."""
