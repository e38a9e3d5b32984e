"""Examples, splits and images on their way to a model."""

NAMED_COLUMNS = ("example_id", "group", "split", "balance")
"""Columns that every table of examples has, whatever the task."""
