"""Intervals, p-values and fits: frames and arrays in, numbers out."""
