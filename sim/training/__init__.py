"""The loop over steps, the choice of a learner, and the warm start."""
