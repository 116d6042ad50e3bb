"""The table of the API, read from the code and the tests: docs/api.md."""
