"""What is claimed about speed, memory and depth, as one command: python -m benchmarks."""
