"""When batches are due, and how each runs from its plan to its commit."""
