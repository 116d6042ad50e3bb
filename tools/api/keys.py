"""What stands in the place of Spark's settings, metrics and pages: written by hand, as no code says it.

Owns: KEYS, METRICS, PAGES.
Never: a name of ours that is not there; a test looks for each.
"""

from collections.abc import Mapping

KEYS: Mapping[str, str] = {
    "spark.master, spark.app.name, spark.home": "read from `LocalContext(conf=)`",
    "spark.executorEnv.*": "read from `LocalContext(conf=)`; also its `environment`",
    "spark.local.dir": "read from `LocalContext(conf=)`; also its `temporaryFolder`",
    "spark.python.worker.memory": "read from `LocalContext(conf=)`; also its `memory`",
    "spark.submit.pyFiles": "read from `LocalContext(conf=)`; also its `pyFiles`",
    "spark.default.parallelism": "the N of `local[N]`; `numSlices` and `numPartitions` of each operation, `shards` of StreamingContext",
    "spark.streaming.backpressure.enabled": "read from the context's conf; also `backpressure` of StreamingContext",
    "spark.streaming.backpressure.initialRate": "read from the context's conf; also `initialRate` of StreamingContext",
    "spark.streaming.backpressure.rateEstimator": "pid, and no other",
    "spark.streaming.backpressure.pid.*": "read from the context's conf: proportional, integral, derived, minRate",
    "spark.streaming.receiver.maxRate": "`receiverMaxRate` of StreamingContext",
    "spark.streaming.kafka.maxRatePerPartition": "`maxRatePerPartition` of createDirectStream, or its `perPartitionConfig`",
    "spark.streaming.kafka.minRatePerPartition": "minRatePerPartition of a `perPartitionConfig`",
    "spark.streaming.kafka.consumer.cache.*": "none: an executor keeps one consumer for each of its partitions",
    "spark.streaming.kafka.consumer.poll.ms": "none: a server that is away is waited for",
    "spark.streaming.kafka.allowNonConsecutiveOffsets": "none: gaps are read over; `allowCompacted` of createDirectStream for compacted topics",
    "spark.streaming.blockInterval": "`blockInterval` of StreamingContext, seconds",
    "spark.streaming.blockQueueSize": "none: `store` returns when the block is durable",
    "spark.streaming.receiverRestartDelay": "2 seconds; `delay` of Receiver.restart",
    "spark.streaming.raw.maxBlockSizeBytes": "`maxBlockSizeBytes` of rawSocketStream",
    "spark.streaming.receiver.writeAheadLog.*": "none: with a checkpoint directory every block is in a log before a batch has it",
    "spark.streaming.driver.writeAheadLog.*": "none: the journal is the log, and there is one",
    "spark.streaming.concurrentJobs": "1: a batch is committed before the next one begins",
    "spark.streaming.stopGracefullyOnShutdown": "none: catch the signal and call `stop(stopGraceFully=True)`, as the pipeline does",
    "spark.streaming.stopSparkContextByDefault": "`stopSparkContext` of stop",
    "spark.streaming.gracefulStopTimeout": "`gracefulStopTimeout` of stop, seconds",
    "spark.streaming.unpersist": "none: what no window needs any more is let go",
    "spark.streaming.checkpoint.directory": "`directory` of StreamingContext.checkpoint",
    "spark.streaming.fileStream.minRememberDuration": "none: a name is known for a minute after its file left, or as long as `remember` says",
    "spark.streaming.sessionByKey.deltaChainThreshold": "none: a snapshot is due when a shard has outgrown its deltas",
    "spark.streaming.ui.retainedBatches": "1,000 batches are kept",
    "spark.streaming.extraListeners": "`addStreamingListener`",
    "spark.streaming.dynamicAllocation.*": "none: the executors are as many as the master says",
    "spark.streaming.clock, spark.streaming.manualClock.jump": "`clock` of StreamingContext",
    "spark.streaming.internal.batchTime, spark.streaming.internal.outputOpId": "none: listeners are told both",
}
"""By key the argument that stands in its place, or why there is none."""

METRICS: Mapping[str, str] = {
    "totalCompletedBatches, retainedCompletedBatches": "engine_batches_total; the page's `/api/v1/statistics`",
    "totalReceivedRecords, totalProcessedRecords": "engine_records_total",
    "unprocessedBatches, waitingBatches": "none: there is one due batch, and engine_lag_records says how far it is behind",
    "runningBatches": "engine_running_batches",
    "receivers": "none: listeners are told when a receiver starts and stops",
    "lastCompletedBatch_submissionTime, processingStartTime, processingEndTime": "engine_last_batch_time_seconds, engine_last_commit_time_seconds",
    "lastCompletedBatch_processingDelay": "engine_processing_seconds, a histogram",
    "lastCompletedBatch_schedulingDelay": "engine_scheduling_delay_seconds, a histogram",
    "lastCompletedBatch_totalDelay": "engine_total_delay_seconds, a histogram",
    "lastReceivedBatch_records": "engine_batch_records",
}
"""By gauge of Spark's StreamingMetrics the metric in its place."""

PAGES: Mapping[str, str] = {
    "streaming/statistics": "`/api/v1/statistics`",
    "streaming/receivers": "none: `/api/v1/graph` has the inputs",
    "streaming/batches": "`/api/v1/batches`",
    "streaming/batches/<id>": "`/api/v1/batches/<batch time>`",
    "streaming/batches/<id>/operations, /operations/<op>": "in the answer of `/api/v1/batches/<batch time>`",
}
"""By REST resource of Spark's the one in its place."""
