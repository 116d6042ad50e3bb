"""The schema of the results in Cassandra: numbered migrations, and the program that applies them."""
