"""The made-up project that the Google Cloud tests bill."""

PROJECT = "secret-billing-project"
