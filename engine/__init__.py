"""Discretized streams: Spark Streaming's model in Python, exactly once and proven."""

from engine.clock import ManualClock
from engine.context import StreamingContext
from engine.dstream.dstream import DStream
from engine.dstream.policy import Retry
from engine.dstream.statespec import State, StateSpec
from engine.preparation import StreamingContextState
from engine.rdd.conf import SparkConf
from engine.rdd.context import LocalContext
from engine.rdd.shared import Accumulator, AccumulatorParam, Broadcast, SparkFiles
from engine.rdd.task import TaskContext
from engine.scheduler.listener import StreamingListener
from engine.sources.receiver import Receiver
from engine.storage import StorageLevel

__all__ = [
    "Accumulator",
    "AccumulatorParam",
    "Broadcast",
    "DStream",
    "LocalContext",
    "ManualClock",
    "Receiver",
    "Retry",
    "SparkConf",
    "SparkFiles",
    "State",
    "StateSpec",
    "StorageLevel",
    "StreamingContext",
    "StreamingContextState",
    "StreamingListener",
    "TaskContext",
]
