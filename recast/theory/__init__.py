"""What a strategy makes of a group, worked out exactly."""
