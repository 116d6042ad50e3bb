"""Results stores, and how rows get into them once."""
