"""What of a base is trained, and how it is kept."""
