"""The same small programs on PySpark's own DStreams and on this engine, compared batch by batch."""
