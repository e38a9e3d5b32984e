"""MIMIC-CXR-JPG: cohort, sample and mini-reports."""
