"""The programs of examples/, each run as a user runs it."""
