"""Training steps without the rollouts that carry no signal."""
