"""Observers of the engine: they hang on as listeners, and the engine does not know them.

    PrometheusListener   the metrics of docs/metrics.md, in a registry: ssc.addStreamingListener(PrometheusListener())
    StreamingPage        the page of docs/streaming-page.md: StreamingPage(ssc, port=4040).start()

Both take what the scheduler tells its listeners and give nothing back: a batch is the same with and without them, and an error in one
of them is logged while the batch goes on.

Owns: the front door, `from engine.monitoring import StreamingPage`.
Never: an effect on the stream.
"""

from engine.monitoring.metrics import PrometheusListener
from engine.monitoring.server import StreamingPage

__all__ = ["PrometheusListener", "StreamingPage"]
