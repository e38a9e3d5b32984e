"""A study file for a table that nobody has described yet: columns guessed, and said why."""
