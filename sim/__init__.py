"""The simulator: worlds, policies, and training whose numbers do not depend on its company."""
