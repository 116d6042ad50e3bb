"""The pipeline in about a minute: it runs, its engine is killed with -9, it recovers, and every row is proven."""
