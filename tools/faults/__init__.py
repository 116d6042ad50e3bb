"""The table of faults that cost no event, read from the tests that make them: docs/faults.md."""
