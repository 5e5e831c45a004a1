"""The general path: one run of any strategy, step by step, through autograd."""
