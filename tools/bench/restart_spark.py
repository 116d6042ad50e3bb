"""The job on PySpark's DStreams, in a process that is killed: `python -c "from tools.bench.restart_spark import main; main(FOLDER, SECONDS)"`.

Owns: main.
"""

import warnings
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.streaming import StreamingContext

from tools.bench.restarts import HEAP, Told, build

_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.default.parallelism": "4",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
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
    jvm: Any = ssc.sparkContext._jvm  # noqa: SLF001 - PySpark has no public way to its JVM
    Told(Path(folder) / HEAP).tell(jvm.java.lang.Runtime.getRuntime().maxMemory())
    ssc.start()
    ssc.awaitTermination()
