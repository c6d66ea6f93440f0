"""What follows from a configuration alone: a run's cost, and what the paper says of its hierarchy."""
