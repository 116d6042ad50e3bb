"""The board of what is before and behind the engine: Kafka with its producers, and Cassandra with the engine's sink.

Owns: BOARD.
Never: a way to draw; panels.py has those.
"""

from typing import Final

from grafana.board import Board, Panels, Row
from grafana.cassandra import CASSANDRA_ROW, JAVA_ROW, SINK_ROW
from grafana.expressions import BEHIND, INTERVAL, TOPIC, quantile, rate
from grafana.panels import RED, Help, Query, lines, stat

_PARTITION: Final = f'{TOPIC}, partition=~"$partition"'

_LAG: Final[Panels] = [
    (
        8,
        lines(
            "Lag, records by partition",
            Help(
                "Records of each partition that are in Kafka and not committed by the engine.",
                "one partition grows while the others do not: it has more keys than its share, or its executor is slow.",
                "compare the executors on board 2; docs/alerts.md#laggrowing.",
            ),
            [
                Query(
                    f"max by (topic, partition) (engine_lag_records{{{_PARTITION}}})",
                    "{{topic}} {{partition}}",
                )
            ],
            "short",
            decimals=0,
        ),
    ),
    (
        8,
        lines(
            "Lag, seconds by partition",
            Help(
                "Age of each partition's newest committed record; whatever waits is younger.",
                f"above the dashed line of {BEHIND} intervals.",
                "see processing time on board 2; docs/alerts.md#laggrowing.",
            ),
            [
                Query(
                    f"max by (topic, partition) (engine_lag_seconds{{{_PARTITION}}})",
                    "{{topic}} {{partition}}",
                ),
                Query(f"{BEHIND} * {INTERVAL}", "limit", is_limit=True),
            ],
            "s",
            decimals=2,
        ),
    ),
    (
        8,
        lines(
            "Appended, by partition",
            Help(
                "Offsets a second by which each partition's log grows.",
                "a partition at 0 while its neighbours grow: windows of its topic do not close.",
                "`scripts/logs producer`; docs/alerts.md#producersilent.",
            ),
            [
                Query(
                    f"sum by (topic, partition) (rate(kafka_log_end_offset{{{_PARTITION}}}[$__rate_interval]))",
                    "{{topic}} {{partition}}",
                )
            ],
            "recps",
            decimals=0,
        ),
    ),
]


_PRODUCERS: Final[Panels] = [
    (
        6,
        lines(
            "Made against target",
            Help(
                "Events acknowledged a second, and what the producers are set to, dashed.",
                "below the dashed line for long: the broker or the machine is too slow for the rate.",
                "`scripts/logs producer`; AD_RATE and PAGE_RATE set the target; docs/alerts.md#producersilent.",
            ),
            [
                Query(rate("producer_events_total", "topic", TOPIC), "{{topic}}"),
                Query(f"sum(producer_target_rate{{{TOPIC}}})", "target, all", is_limit=True),
            ],
            "eps",
            decimals=0,
            stack=True,
        ),
    ),
    (
        6,
        lines(
            "Schedule delay",
            Help(
                "From the time at which an event was due until it is acknowledged: also the wait before it was sent.",
                "grows: the producer no longer keeps its schedule, and end-to-end latency begins here.",
                "see requests of Kafka below; `scripts/logs producer`; docs/alerts.md#producerbehind.",
            ),
            [
                Query(
                    quantile("$percentile", "producer_schedule_delay_seconds", "topic", TOPIC),
                    "{{topic}}",
                )
            ],
            "s",
            decimals=3,
        ),
    ),
    (
        6,
        lines(
            "Transactions",
            Help(
                "One transaction of the producers until committed.",
                "grows with the produce requests of Kafka: its disk is slow.",
                "`scripts/logs kafka`.",
            ),
            [Query(quantile("$percentile", "producer_append_seconds", "topic", TOPIC), "{{topic}}")],
            "s",
            decimals=3,
        ),
    ),
    (
        6,
        lines(
            "Transactions that failed",
            Help(
                "Appends a second that were refused or got no answer; the producer tries again with the same events.",
                "any while Kafka is up.",
                "`scripts/logs producer`, then `docker compose ps kafka`; docs/alerts.md#producersilent.",
            ),
            [Query(rate("producer_append_failures_total", "topic", TOPIC), "{{topic}}")],
            "ops",
            decimals=2,
        ),
    ),
]


_KAFKA: Final[Panels] = [
    (
        6,
        stat(
            "Broker",
            Help(
                "Partitions without a leader, with too few copies, and brokers that lead the cluster.",
                "offline or under-replicated is not 0, or controllers is not 1.",
                "`docker compose ps kafka`, `scripts/logs kafka`; docs/alerts.md#kafkaunhealthy.",
            ),
            [
                Query("max(kafka_offline_partitions)", "offline"),
                Query("max(kafka_under_replicated_partitions)", "under-replicated"),
                Query("1 - sum(kafka_active_controllers)", "controllers missing"),
            ],
            "short",
            ratios=((1, RED),),
            gone="kafka down",
        ),
    ),
    (
        6,
        lines(
            "Kafka, requests",
            Help(
                "Time of produce and fetch requests in the broker. A fetch waits for records, so its half is near its wait time.",
                "produce p99 over the producers' delay: the broker is the brake.",
                "`docker stats`, and the processor of Java below.",
            ),
            [
                Query(
                    'max by (request, quantile) (kafka_request_seconds{request=~"Produce|Fetch"})',
                    "{{request}} {{quantile}}",
                )
            ],
            "s",
            decimals=3,
        ),
    ),
    (
        6,
        lines(
            "Kafka, failed requests",
            Help(
                "Produce and fetch requests a second that the broker refused.",
                "any for more than the seconds of a restart.",
                "`scripts/logs kafka`; docs/alerts.md#kafkadown.",
            ),
            [
                Query(rate("kafka_failed_produce_requests_total"), "produce"),
                Query(rate("kafka_failed_fetch_requests_total"), "fetch"),
            ],
            "reqps",
            decimals=2,
        ),
    ),
    (
        6,
        lines(
            "Kafka, traffic",
            Help(
                "Bytes a second in from the producers and out to the engine, by topic.",
                "out far above in: something reads again and again what it had.",
                "`scripts/logs engine`; a verifier that runs reads everything, and that is well.",
            ),
            [
                Query(rate("kafka_bytes_in_total", "topic", TOPIC), "{{topic}} in"),
                Query(rate("kafka_bytes_out_total", "topic", TOPIC), "{{topic}} out"),
            ],
            "Bps",
        ),
    ),
    (
        6,
        lines(
            "Partition skew",
            Help(
                "The busiest partition of a topic over the mean of its partitions; 1 is even.",
                "above 1.5: the keys are unequal, and one executor works for the others.",
                "see which on `Appended, by partition`, a line each; more partitions (AD_PARTITIONS and PAGE_PARTITIONS of "
                "docs/settings.md, for a new topic) help many keys, not one big key.",
            ),
            [
                Query(
                    f"max by (topic) (rate(kafka_log_end_offset{{{TOPIC}}}[$__rate_interval]))"
                    f" / avg by (topic) (rate(kafka_log_end_offset{{{TOPIC}}}[$__rate_interval]))",
                    "{{topic}}",
                )
            ],
            "short",
            decimals=2,
            bottom=None,
        ),
    ),
    (
        6,
        lines(
            "Request handlers, idle",
            Help(
                "Share of their time in which the broker's request threads have nothing to do.",
                "below 0.3: the broker is at its end.",
                "`docker stats`; give Kafka more processor, or lower the rates.",
            ),
            [Query("max(kafka_request_handler_idle_ratio)", "idle")],
            "percentunit",
            decimals=2,
        ),
    ),
    (
        6,
        lines(
            "Log, size",
            Help(
                "Bytes of each topic on the broker's disk.",
                "near the size of the volume. A log that Kafka has shortened can no longer be verified from its beginning.",
                "`docker compose exec kafka df -h`.",
            ),
            [Query(f"sum by (topic) (kafka_log_size_bytes{{{TOPIC}}})", "{{topic}}")],
            "bytes",
            stack=True,
        ),
    ),
    (
        6,
        lines(
            "Records taken, by topic",
            Help(
                "Records a second that the broker has appended.",
                "differs from `Made against target` for longer than some seconds.",
                "`scripts/logs kafka`.",
            ),
            [Query(rate("kafka_messages_in_total", "topic", TOPIC), "{{topic}}")],
            "mps",
            decimals=0,
        ),
    ),
]


BOARD: Final = Board(
    uid="dstreams-kafka-cassandra",
    title="3 Kafka and Cassandra",
    description="What the engine reads from and writes to: lag, requests, disks, and who makes whom wait.",
    variables=("topic", "partition", "percentile"),
    rows=(
        Row("Lag", 8, _LAG),
        Row("Producers", 7, _PRODUCERS),
        Row("Kafka", 7, _KAFKA),
        Row("The engine's sink", 8, SINK_ROW),
        Row("Cassandra", 7, CASSANDRA_ROW),
        Row("Java", 7, JAVA_ROW),
    ),
)
"""The board of the two servers."""
