"""The loop over steps, who trains in it, and the start it begins from."""
