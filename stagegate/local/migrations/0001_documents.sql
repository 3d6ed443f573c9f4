-- What a service holds, one row a resource; id keeps the order of creation.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (kind, key)
);

-- What happened, in order: the journal of an execution, the log of what moto was asked.
CREATE TABLE entries (
    stream TEXT NOT NULL,
    number INTEGER NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (stream, number)
) WITHOUT ROWID;

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID
