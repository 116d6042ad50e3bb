"""The schema of the results in SQLite: numbered migrations, and the program that applies them."""
