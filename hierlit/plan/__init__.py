"""What a configuration alone tells of a run: its cost, and what the paper says of its hierarchy."""
