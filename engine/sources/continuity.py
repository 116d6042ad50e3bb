"""Whether a log still is the one that was read before, and what of it is gone.

Owns: prove_topics, what_is_gone, passed_over, lost_letter, count_by_topic.
Never: a decision to go on without what is gone; whoever makes the stream says so.
"""

from collections.abc import Iterable, Mapping, Sequence

from engine.batch import OffsetRange, TopicPartition
from engine.dstream.nodes import DeadLetter
from engine.errors import ConfigurationError, SourceError
from engine.sources.api import Source


def prove_topics(source: Source, topics: Sequence[str], known: dict[str, str], rereads: int) -> None:
    """Prove that topics are those that were read before, and that they keep what windows read again.

    Args:
        source: has them.
        topics: their names.
        known: by topic its id when it was first read; those that are new are added.
        rereads: how far back windows read records again, milliseconds.

    Raises:
        SourceError: one was deleted and made again.
        ConfigurationError: one keeps its records for a shorter time.
    """
    for topic, found in source.topic_ids(topics).items():
        if known.setdefault(topic, found) != found:
            raise SourceError(
                f"topic {topic!r} was deleted and made again (its id was {known[topic]}, now {found}): its offsets mean other "
                "records; start with a new checkpoint folder to read the new one"
            )
    for topic in topics if rereads else ():
        kept = source.retention_ms(topic)
        if kept is not None and kept < rereads:
            raise ConfigurationError(
                f"topic {topic!r} keeps its records for {kept} ms (retention.ms), and a window reads those of the last "
                f"{int(rereads)} ms again; raise the topic's retention.ms, or shorten the window"
            )


def what_is_gone(begin: int, earliest: int, end: int) -> str:
    """What is gone when the next offset lies outside of the log.

    Example:
        >>> what_is_gone(10, 40, 90)
        'the records of offsets [10, 40) are lost, their retention is over'
    """
    if begin < earliest:
        return f"the records of offsets [{begin}, {earliest}) are lost, their retention is over"
    return f"the log lost its tail [{end}, {begin})"


def passed_over(ranges: Iterable[OffsetRange], positions: Mapping[TopicPartition, int]) -> list[OffsetRange]:
    """The offsets between where the last batch ended in each partition and where these ranges begin.

    Example:
        >>> passed_over([OffsetRange("pages", 0, 40, 90)], {TopicPartition("pages", 0): 10})
        [OffsetRange(topic='pages', partition=0, fromOffset=10, untilOffset=40)]
    """
    begins = [(part, positions.get(part.topicPartition(), part.fromOffset)) for part in ranges]
    return [
        OffsetRange(part.topic, part.partition, begin, part.fromOffset)
        for part, begin in begins
        if begin < part.fromOffset
    ]


def lost_letter(gone: OffsetRange) -> DeadLetter:
    """The letter that stands for offsets that the log no longer has."""
    reason = f"lost: offsets [{gone.fromOffset}, {gone.untilOffset}) were gone from the log, and passed over"
    return DeadLetter(gone.topic, gone.partition, gone.fromOffset, reason, None)


def count_by_topic(ranges: Iterable[OffsetRange]) -> dict[str, int]:
    """By topic the number of offsets."""
    counts: dict[str, int] = {}
    for part in ranges:
        counts[part.topic] = counts.get(part.topic, 0) + part.count()
    return counts
