"""Counts the last digits of numbers that wait in a queue, one RDD a second; ends by itself after six seconds."""

import time

from engine import LocalContext as SparkContext
from engine import StreamingContext

if __name__ == "__main__":
    sc = SparkContext("local[2]", "QueueStream")
    ssc = StreamingContext(sc, 1)

    waiting = [sc.parallelize(range(1, 1001), 10) for _ in range(5)]
    digits = ssc.queueStream(waiting).map(lambda number: (number % 10, 1))
    digits.reduceByKey(lambda left, right: left + right).pprint()

    ssc.start()
    time.sleep(6)
    ssc.stop(stopSparkContext=True, stopGraceFully=True)
