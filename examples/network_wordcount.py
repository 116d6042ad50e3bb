"""Counts the words of each second that come over a socket: network_wordcount.py HOST PORT."""

import sys

from engine import LocalContext as SparkContext
from engine import StreamingContext

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: network_wordcount.py HOST PORT")
    sc = SparkContext("local[2]", "NetworkWordCount")
    ssc = StreamingContext(sc, 1)

    lines = ssc.socketTextStream(sys.argv[1], int(sys.argv[2]))
    words = lines.flatMap(lambda line: line.split(" "))
    words.map(lambda word: (word, 1)).reduceByKey(lambda left, right: left + right).pprint()

    ssc.start()
    ssc.awaitTermination()
