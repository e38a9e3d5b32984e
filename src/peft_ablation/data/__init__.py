"""Examples, splits and images on their way to a model."""
