"""The loop over steps, its parts, and the start it begins from."""
