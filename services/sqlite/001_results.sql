-- The results of the three jobs: the tables of Cassandra with timestamps in milliseconds. _written is the write timestamp in
-- microseconds, the larger one stays; _deleted marks a removed row, which must keep its timestamp.

CREATE TABLE IF NOT EXISTS campaign_windows (
    campaign_id TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    views INTEGER,
    batch INTEGER,
    _written INTEGER NOT NULL DEFAULT 0,
    _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign_id, window_start)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS trending_pages (
    window_end INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    page TEXT,
    views INTEGER,
    batch INTEGER,
    _written INTEGER NOT NULL DEFAULT 0,
    _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (window_end, rank)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS page_totals (
    page TEXT NOT NULL,
    views INTEGER,
    batch INTEGER,
    _written INTEGER NOT NULL DEFAULT 0,
    _deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (page)
) WITHOUT ROWID;
