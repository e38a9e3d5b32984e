"""One run of an arm and seed: the loop, its checkpoints and its devices."""
