"""Apache Spark as the backend: streams on a `pyspark.SparkContext`; the only room that knows of pyspark."""
