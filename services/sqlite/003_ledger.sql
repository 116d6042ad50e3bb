-- One row a batch, written AFTER its outputs and BEFORE its commit; day is the UTC date of batch, ranges a JSON list of
-- [topic, partition, from, until] with until exclusive.

CREATE TABLE IF NOT EXISTS ledger (
    app TEXT NOT NULL,
    day TEXT NOT NULL,
    batch INTEGER NOT NULL,
    attempt INTEGER,
    zero_time INTEGER,
    ranges TEXT,
    _written INTEGER NOT NULL DEFAULT 0,
    _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, day, batch)
) WITHOUT ROWID;
