"""What makes a step fast: only rollouts that carry a signal are drawn, where that is exact."""
