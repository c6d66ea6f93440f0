"""What is on disk: files written whole or not at all, digests, checkpoints, weights, exported models."""
