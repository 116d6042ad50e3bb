-- Which dead letters were sent again, by scripts/replay: sent_from is the end of the partition before, sent_at the record's offset, null
-- until it is known.

CREATE TABLE IF NOT EXISTS replays (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    record_offset INTEGER NOT NULL,
    sent_from INTEGER,
    sent_at INTEGER,
    batch INTEGER,
    _written INTEGER NOT NULL DEFAULT 0,
    _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition, record_offset)
) WITHOUT ROWID;
