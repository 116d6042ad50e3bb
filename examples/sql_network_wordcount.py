"""Counts words by SQL on each batch that comes over a socket, on Apache Spark: sql_network_wordcount.py HOST PORT."""

import sys

from pyspark import SparkContext
from pyspark.sql import Row, SparkSession

from engine import StreamingContext


def show(time, rdd):
    """Print the words of a batch."""
    print(f"========= {time} =========")
    if rdd.isEmpty():
        return
    session = SparkSession.builder.getOrCreate()
    words = session.createDataFrame(rdd.map(lambda word: Row(word=word)))
    words.createOrReplaceTempView("words")
    session.sql("select word, count(*) as total from words group by word order by word").show()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: sql_network_wordcount.py HOST PORT")
    sc = SparkContext("local[2]", "SqlNetworkWordCount")
    ssc = StreamingContext(sc, 1)

    lines = ssc.socketTextStream(sys.argv[1], int(sys.argv[2]))
    lines.flatMap(lambda line: line.split(" ")).foreachRDD(show)

    ssc.start()
    ssc.awaitTermination()
