"""The engine killed again and again, on both stacks."""
