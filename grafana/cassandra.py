"""Rows about what is behind the engine: its sink, Cassandra, and the Java of both servers.

Owns: SINK_ROW, CASSANDRA_ROW, JAVA_ROW.
Never: a way to draw; panels.py has those.
"""

from typing import Final

from grafana.board import Panels
from grafana.expressions import INTERVAL, buckets, quantile, rate
from grafana.panels import Help, Query, bars, heat, lines

SINK_ROW: Final[Panels] = [
    (
        8,
        heat(
            "Sink, all requests",
            Help(
                "How many requests to Cassandra took how long, as the engine sees it.",
                "a second band far above the first: pauses of Java, compactions, or a slow disk.",
                "`docker compose exec cassandra nodetool tpstats`; docs/alerts.md#sinkslow.",
            ),
            Query(buckets("engine_sink_write_seconds"), "{{le}}"),
            "s",
            decimals=4,
        ),
    ),
    (
        8,
        lines(
            "Sink, request time",
            Help(
                "One request to the store until acknowledged, by table. Dashed: half a batch interval.",
                "above the dashed line.",
                "compare with Cassandra's own count below: the difference is network and waiting; docs/alerts.md#sinkslow.",
            ),
            [
                Query(quantile("0.5", "engine_sink_write_seconds", "table"), "{{table}} p50"),
                Query(quantile("0.99", "engine_sink_write_seconds", "table"), "{{table}} p99"),
                Query(f"{INTERVAL} / 2", "limit", is_limit=True),
            ],
            "s",
            decimals=4,
        ),
    ),
    (
        8,
        lines(
            "Sink, rows",
            Help(
                "Rows acknowledged a second, by table.",
                "a table at 0 whose job has input.",
                "open the [streaming page](${streaming_page}/) and look at that output.",
            ),
            [Query(rate("engine_sink_rows_total", "table"), "{{table}}")],
            "rowsps",
            decimals=0,
            stack=True,
        ),
    ),
    (
        8,
        bars(
            "Sink, retries and failures since the start",
            Help(
                "Pauses before another try, and requests without an acknowledgement, since the engine started; told when a write ends.",
                "either rises without a drill.",
                "`scripts/logs engine`, `docker compose ps cassandra`; docs/alerts.md#sinkerrors.",
            ),
            [
                Query("sum by (table) (engine_sink_retries_total)", "{{table}} retries"),
                Query("sum by (table) (engine_sink_failures_total)", "{{table}} failures"),
            ],
            "short",
            decimals=0,
            gone="engine down",
        ),
    ),
]


CASSANDRA_ROW: Final[Panels] = [
    (
        6,
        lines(
            "Cassandra, requests",
            Help(
                "Latency of reads and writes in Cassandra, by its own histogram.",
                "write p99 above the sink's dashed line.",
                "`docker compose exec cassandra nodetool proxyhistograms`; docs/alerts.md#sinkslow.",
            ),
            [
                Query(
                    "max by (request, quantile) (cassandra_client_request_seconds)",
                    "{{request}} {{quantile}}",
                )
            ],
            "s",
            decimals=4,
        ),
    ),
    (
        6,
        lines(
            "Cassandra, requests that did not succeed",
            Help(
                "Requests a second that timed out, found too few replicas, or failed.",
                "any for more than the seconds of a restart.",
                "`scripts/logs cassandra`; docs/alerts.md#cassandratimeouts.",
            ),
            [
                Query(rate("cassandra_client_timeouts_total"), "timeouts"),
                Query(rate("cassandra_client_unavailables_total"), "unavailable"),
                Query(rate("cassandra_client_failures_total"), "failures"),
            ],
            "reqps",
            decimals=2,
        ),
    ),
    (
        6,
        lines(
            "Compactions that wait",
            Help(
                "Compactions that Cassandra has yet to do.",
                "rises and does not fall: writes outrun the disk, and reads get slower.",
                "`docker compose exec cassandra nodetool compactionstats`; docs/alerts.md#compactionspending.",
            ),
            [Query("max(cassandra_pending_compactions)", "pending")],
            "short",
            decimals=0,
        ),
    ),
    (
        6,
        lines(
            "Live data, by table",
            Help(
                "Bytes of each table on disk. Rows that were written again count until they are compacted.",
                "one table runs away.",
                "`docker compose exec cassandra nodetool tablestats pipeline`.",
            ),
            [Query("max by (table) (cassandra_live_disk_bytes)", "{{table}}")],
            "bytes",
            stack=True,
        ),
    ),
    (
        6,
        lines(
            "Thread pools, waiting",
            Help(
                "Tasks that wait in Cassandra's thread pools.",
                "a pool stays above 0: it is the bottleneck.",
                "`docker compose exec cassandra nodetool tpstats`.",
            ),
            [Query("max by (pool) (cassandra_thread_pool_pending)", "{{pool}}")],
            "short",
            decimals=0,
        ),
    ),
    (
        6,
        lines(
            "Messages dropped",
            Help(
                "Messages a second that Cassandra gave up because they had waited too long.",
                "any.",
                "`docker stats`: it lacks processor or disk; docs/alerts.md#cassandratimeouts.",
            ),
            [Query(rate("cassandra_dropped_messages_total", "message"), "{{message}}")],
            "ops",
            decimals=2,
        ),
    ),
    (
        6,
        lines(
            "Commit log",
            Help(
                "Bytes of the commit log. Every write waits until it is there.",
                "grows without end: tables are not flushed.",
                "`docker compose exec cassandra nodetool flush`, then see `scripts/logs cassandra`.",
            ),
            [
                Query("max(cassandra_commitlog_bytes)", "commit log"),
                Query("max(cassandra_storage_load_bytes)", "all tables"),
            ],
            "bytes",
        ),
    ),
    (
        6,
        lines(
            "Clients and commit log queue",
            Help(
                "Connections to Cassandra, and writes that wait for the commit log.",
                "no client while the engine runs; a queue that stays above 0.",
                "`docker compose exec cassandra nodetool clientstats`.",
            ),
            [
                Query("max(cassandra_connected_clients)", "clients"),
                Query("max(cassandra_commitlog_pending_tasks)", "writes that wait"),
            ],
            "short",
            decimals=0,
        ),
    ),
]


_SERVERS: Final = 'service=~"kafka|cassandra"'
JAVA_ROW: Final[Panels] = [
    (
        8,
        lines(
            "Heap",
            Help(
                "Heap in use by Kafka and Cassandra. A saw is well; its lower edge is what stays.",
                "the lower edge rises to the heap's size.",
                "`docker stats`; heap and memory limit are in docker-compose.yml.",
            ),
            [Query(f'max by (service) (jvm_memory_used_bytes{{area="heap", {_SERVERS}}})', "{{service}}")],
            "bytes",
        ),
    ),
    (
        8,
        lines(
            "Garbage collection, share of time",
            Help(
                "Share of the time that each server stands still for its garbage collector.",
                "above a twentieth: pauses show in every latency.",
                "a larger heap in docker-compose.yml; `docker stats`.",
            ),
            [Query(rate("jvm_gc_collection_seconds_sum", "service", _SERVERS), "{{service}}")],
            "percentunit",
            decimals=3,
        ),
    ),
    (
        8,
        lines(
            "Servers, processor",
            Help(
                "Cores in use by each server.",
                "as many as it may have: it is the brake.",
                "`docker stats`.",
            ),
            [Query(rate("process_cpu_seconds_total", "service", _SERVERS), "{{service}}")],
            "short",
            decimals=2,
        ),
    ),
]
