"""What somebody's own training log says."""
