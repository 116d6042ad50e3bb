"""The job on PySpark's DStreams, in a process that is killed: `python -c "from tools.bench.restart_spark import main; main(FOLDER, SECONDS)"`.

Owns: main.
"""

import warnings

from pyspark import SparkConf, SparkContext
from pyspark.streaming import StreamingContext

from tools.bench.restarts import build

_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.default.parallelism": "4",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    # Over TCP each task waits about 40 ms.
    "spark.python.unix.domain.socket.enabled": "true",
}


def main(folder: str, interval: int) -> None:
    """Run batches of so many seconds until the process is killed."""
    warnings.simplefilter("ignore", FutureWarning)

    def setup() -> StreamingContext:
        conf = SparkConf().setAll(list(_SETTINGS.items()))
        ssc = StreamingContext(SparkContext("local[2]", "recovery", conf=conf), interval)
        ssc.checkpoint(f"{folder}/checkpoints")
        build(ssc, folder)
        return ssc

    ssc = StreamingContext.getOrCreate(f"{folder}/checkpoints", setup)
    ssc.start()
    ssc.awaitTermination()
