"""The process that Spark forks its Python workers from, with all loaded that they need: a new worker is ready at once.

PySpark's own loads nothing before the fork, and each worker then compiles PySpark from a zip without bytecode. An application
asks for this one with `spark.python.daemon.module=engine.spark.daemon`.

Owns: no name; it is run as a program.
Never: a thread before a fork.
"""

import gc

import pyspark.worker  # noqa: F401 - loaded for the forks, as is the next
from pyspark.daemon import manager

import engine.spark.access  # noqa: F401

if __name__ == "__main__":
    # PySpark collects garbage after each task: what is loaded here stays, and need not be looked at.
    gc.collect()
    gc.freeze()
    manager()
