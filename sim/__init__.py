"""The simulator: worlds, policies, and training; no run changes the bits of another."""
