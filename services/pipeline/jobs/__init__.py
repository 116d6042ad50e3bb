"""The jobs, a page of code each."""
