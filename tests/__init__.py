"""The tests; what they state is the specification."""
