"""What a strategy learns from a group: by its hits, in closed form, by enumeration."""
