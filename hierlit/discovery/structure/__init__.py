"""What labels say of one another, from the label table alone."""
