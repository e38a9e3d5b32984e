"""The models that arms start from."""
