"""PySpark's RDD protocol, and the embedded backend that computes it on the processes of one machine."""
