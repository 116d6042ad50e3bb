"""Counts the words since the start that come over a socket: stateful_network_wordcount.py HOST PORT."""

import sys
import tempfile

from engine import LocalContext as SparkContext
from engine import StreamingContext

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: stateful_network_wordcount.py HOST PORT")
    sc = SparkContext("local[2]", "StatefulNetworkWordCount")
    ssc = StreamingContext(sc, 1)
    ssc.checkpoint(tempfile.mkdtemp())

    known = sc.parallelize([("hello", 1), ("world", 1)])

    def updated(values, total):
        return sum(values) + (total or 0)

    lines = ssc.socketTextStream(sys.argv[1], int(sys.argv[2]))
    words = lines.flatMap(lambda line: line.split(" ")).map(lambda word: (word, 1))
    words.updateStateByKey(updated, initialRDD=known).pprint()

    ssc.start()
    ssc.awaitTermination()
