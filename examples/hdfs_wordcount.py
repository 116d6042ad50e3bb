"""Counts the words of each new file in a folder: hdfs_wordcount.py FOLDER."""

import sys

from engine import LocalContext as SparkContext
from engine import StreamingContext

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: hdfs_wordcount.py FOLDER")
    sc = SparkContext("local[2]", "HdfsWordCount")
    ssc = StreamingContext(sc, 1)

    lines = ssc.textFileStream(sys.argv[1])
    words = lines.flatMap(lambda line: line.split(" ")).map(lambda word: (word, 1))
    words.reduceByKey(lambda left, right: left + right).pprint()

    ssc.start()
    ssc.awaitTermination()
