"""Figures of a study, one module a figure; each is written as SVG, PNG and the CSV behind it."""
