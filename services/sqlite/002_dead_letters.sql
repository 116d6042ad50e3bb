-- Records that no job could use, with their bytes; the reason is "late" or "undecodable: <text>".

CREATE TABLE IF NOT EXISTS dead_letters (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    record_offset INTEGER NOT NULL,
    reason TEXT,
    value BLOB,
    batch INTEGER,
    _written INTEGER NOT NULL DEFAULT 0,
    _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition, record_offset)
) WITHOUT ROWID;
