"""Metrics as functions of sums, and their resampling."""
