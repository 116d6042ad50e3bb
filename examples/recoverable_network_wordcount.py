"""Counts words so that a killed program goes on: recoverable_network_wordcount.py HOST PORT CHECKPOINTS OUTPUT.

Words of a list are left out and counted. The list is a broadcast variable and the count an accumulator; both are made when they are
first needed, as no checkpoint holds them.
"""

import sys

from engine import LocalContext as SparkContext
from engine import StreamingContext

shared = {}


def dropped_words(sc):
    """The words that do not count, made at the first use."""
    if "words" not in shared:
        shared["words"] = sc.broadcast(["a", "b", "c"])
    return shared["words"]


def dropped_count(sc):
    """How many were left out, made at the first use."""
    if "count" not in shared:
        shared["count"] = sc.accumulator(0)
    return shared["count"]


def make_context(host, port, output):
    """The program, for a start without checkpoints."""
    print("Creating new context")
    sc = SparkContext("local[2]", "RecoverableNetworkWordCount")
    ssc = StreamingContext(sc, 1)

    lines = ssc.socketTextStream(host, port)
    words = lines.flatMap(lambda line: line.split(" ")).map(lambda word: (word, 1))
    counts = words.reduceByKey(lambda left, right: left + right)

    def append(time, rdd):
        dropped, count = dropped_words(sc), dropped_count(sc)

        def is_kept(pair):
            if pair[0] in dropped.value:
                count.add(pair[1])
                return False
            return True

        line = f"Counts at time {time} {rdd.filter(is_kept).collect()}"
        with open(output, "a") as file:
            file.write(line + "\n")
        print(line)
        print(f"Dropped {count.value} word(s) totally")

    counts.foreachRDD(append)
    return ssc


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: recoverable_network_wordcount.py HOST PORT CHECKPOINTS OUTPUT")
    host, port, checkpoints, output = sys.argv[1:]
    ssc = StreamingContext.getOrCreate(checkpoints, lambda: make_context(host, int(port), output))
    ssc.start()
    ssc.awaitTermination()
