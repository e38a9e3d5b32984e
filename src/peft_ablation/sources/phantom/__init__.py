"""Rendered chest phantoms in the layout of MIMIC-CXR-JPG."""
