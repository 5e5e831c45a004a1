"""How rollouts are drawn from a policy."""
