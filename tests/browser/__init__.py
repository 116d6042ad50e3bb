"""The streaming page in a real browser."""
