"""The fifty faults that must cost no event: what happens, and what must hold all the same.

Owns: Case, CASES, INVARIANTS.
Never: how a fault is made; the tests do that, and name their case with the marker `fault`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

INVARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "I1": "every event has its effect on state and results exactly once",
        "I2": "the rows at the end equal those recomputed from the log",
        "I3": "no committed offset is ahead of durable state",
        "I4": "the engine goes on, or stops with an error that says why; it is never idle or wrong in silence",
        "I5": "it is back within the time that its budget names",
        "I6": "memory stays bounded",
    }
)
"""By short name; every case is to keep I1 to I4, and its row says what else it must show."""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault."""

    number: int
    """From 1 to 50."""
    fault: str
    must: str
    """What must be seen."""
    simulated: str = ""
    """What is imitated, smaller or left out, and why; else nothing."""


_ROWS = (
    (
        "SIGKILL while records are fetched, before any computing",
        "no commit was there; the batch is planned again",
        "tasks fetch, decode and compute record by record: killed between two of them, the batch was begun and its ranges run again",
    ),
    (
        "SIGKILL when the ranges are in the journal, before computing",
        "the same ranges run again, with the same results",
    ),
    ("SIGKILL in the middle of computing", "what was half done is dropped; the same ranges run again"),
    ("SIGKILL after some of the rows were written", "the run that follows writes the same cells again"),
    ("SIGKILL after all rows, before the commit record", "as before: nothing is counted twice"),
    (
        "SIGKILL between a file's temporary name and its own",
        "the older file counts; the temporary one is swept away",
    ),
    (
        "SIGKILL between a rename and the fsync of the folder",
        "the older generation counts, and the batches after it run again",
        "the name is dropped, as a power cut may do",
    ),
    ("SIGKILL after the commit record, before the group's offsets", "the journal counts, not the group"),
    ("SIGKILL while a snapshot is written", "the deltas are still there and valid"),
    ("SIGKILL while old files are removed", "nothing refers to a file that is gone"),
    ("SIGKILL in the middle of a recovery, again and again", "a recovery can be repeated"),
    (
        "SIGKILL at random moments, hundreds of times",
        "the engine gets on between kills, and every row is exact",
    ),
    (
        "a worker process dies, the driver lives",
        "its shards are restored and the batch runs again, once and in order",
    ),
    ("the driver dies, workers live", "workers end with their pipe, and write nothing any more"),
    ("SIGTERM in the middle of a batch, also as process 1", "the batch is committed, the exit code is 0"),
    (
        "SIGSTOP of a process that wakes up when another took over",
        "it commits nothing, and its late rows lose by timestamp",
    ),
    ("two processes on one checkpoint folder", "the second is refused, or fences the first"),
    ("the newest commit record cut at every length", "it is void, and its batch runs again"),
    (
        "one bit turned in a snapshot, a delta or a commit",
        "an error or an older generation, never a wrong state",
    ),
    ("the newest commit record removed", "its batch runs again, and nothing is counted twice"),
    ("a snapshot removed that the journal refers to", "an older generation, loudly, or an error"),
    ("the whole checkpoint folder removed", "refused, unless a fresh start was asked for"),
    ("a checkpoint of a newer format", "refused by name"),
    (
        "code or type of a state changed between two runs",
        "carried over by declaration, or refused; never read in part",
    ),
    (
        "the volume full, at every place that writes",
        "the batch fails, and runs when there is room; no half file counts",
    ),
    (
        "an I/O error of fsync, a volume that turns read-only",
        "an error or a new file; never a retry on the same descriptor",
    ),
    (
        "the clock jumps by an hour, either way",
        "batch times grow, and so do write timestamps",
        "libfaketime answers the engine's questions for the wall clock, as the machine's is not ours alone; or an injected clock does",
    ),
    (
        "Kafka restarts: 1 s, 10 s, 60 s",
        "no gap, no duplicate, and the lag is told",
        "in the suite 1 s and 10 s; 60 s is `make chaos FAULT=kafka-restart HOLD=60`",
    ),
    ("Kafka away at the start", "the engine waits, and health says that it is not ready"),
    (
        "offsets expired while the engine was down",
        "an error that says what is lost, unless the policy says to skip and count",
    ),
    (
        "an offset out of range; a topic deleted and made again",
        "detected by the topic's id, never reset in silence",
    ),
    (
        "partitions added while the engine runs, or is down",
        "read from their first record with the next batch",
    ),
    ("the log's tail lost with its leader", "an offset beyond the end is an error"),
    (
        "aborted transactions, control records, compacted gaps",
        "ranges go by offset; only committed records count",
    ),
    (
        "poison: broken JSON, another type, null, 10 MB",
        "a dead letter with place and reason; the batch goes on",
    ),
    ("an event that its producer sent twice", "counted once for each offset, as the docs say"),
    ("late, disordered and future events", "put aside by the window's rule, and counted"),
    (
        "Cassandra away at the start, in a batch, for long",
        "writes are tried again in place; input waits; memory stays bounded",
        "in the suite outages last seconds; longer ones are `make chaos FAULT=cassandra-restart HOLD=...`",
    ),
    ("a write that timed out, with unknown outcome", "it is written again; the cell is the same"),
    ("a part of the rows refused, an overloaded server", "only those are sent again, fewer at a time"),
    ("a table missing or altered", "an error at once, with the table and its statement"),
    (
        "the way to Kafka or to Cassandra cut, slow or lossy",
        "it goes on when the way is there, within its time",
        "lossy is a connection that breaks at random, which is what TCP makes of lost packets",
    ),
    (
        "batches that take longer than their interval",
        "one batch takes over missed times; the alarm goes; order stays",
    ),
    (
        "ten times the rate for a minute; a backlog of an hour",
        "batches grow up to a cap; memory stays bounded",
    ),
    (
        "one key with nine tenths of the events; a million new keys",
        "no quadratic path; timed-out keys leave",
        "200,000 new keys in all, at most 60,000 of them held at once",
    ),
    (
        "a user's function raises, hangs, leaks, calls sys.exit",
        "its policy decides; the worker is replaced; the record is named",
    ),
    (
        "Prometheus or Grafana away, the metrics' port taken",
        "the engine does not mind, or refuses by name at its start",
        "Grafana asks Prometheus and never the engine, so it has no fault to make here",
    ),
    (
        "the kernel kills a worker, or the container, for memory",
        "as any SIGKILL",
        "a control group with a limit is what a container has; it holds one process, a worker or the only one of a `local` engine",
    ),
    (
        "a power cut",
        "any order of blocks that the system may leave is recovered from",
        "no machine is switched off: writes are recorded, and replayed dropped, torn and disordered",
    ),
    (
        "an upgrade to a new version and back again",
        "both read the folder, or refuse it by name",
        "the newer version is this one's code, patched as it is loaded",
    ),
)

CASES: Mapping[int, Case] = MappingProxyType(
    {number: Case(number, *row) for number, row in enumerate(_ROWS, 1)}
)
"""By number. The list is that of the cases that users of stream engines met, in ARCHITECTURE.md's words."""
