"""Counts the words of each two seconds in a Kafka topic: direct_kafka_wordcount.py BROKERS TOPIC."""

import sys

from engine import LocalContext as SparkContext
from engine import StreamingContext
from engine.sources.kafka import KafkaUtils, PreferConsistent, Subscribe

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: direct_kafka_wordcount.py BROKERS TOPIC")
    brokers, topic = sys.argv[1:]
    sc = SparkContext("local[2]", "DirectKafkaWordCount")
    ssc = StreamingContext(sc, 2)

    settings = {"bootstrap.servers": brokers, "group.id": "wordcount", "auto.offset.reset": "earliest"}
    records = KafkaUtils.createDirectStream(ssc, PreferConsistent(), Subscribe([topic], settings))
    words = records.flatMap(lambda record: record.value.split(" ")).map(lambda word: (word, 1))
    words.reduceByKey(lambda left, right: left + right).pprint()

    ssc.start()
    ssc.awaitTermination()
