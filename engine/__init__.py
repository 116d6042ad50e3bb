"""Discretized streams: Spark Streaming's model in Python, exactly once and proven."""

from engine.clock import ManualClock
from engine.context import StreamingContext, StreamingContextState
from engine.rdd.context import LocalContext
from engine.scheduler.listener import StreamingListener

__all__ = ["LocalContext", "ManualClock", "StreamingContext", "StreamingContextState", "StreamingListener"]
