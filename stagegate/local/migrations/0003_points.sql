-- Numbers over time: a series is a metric, a point what was sent of it for a moment, in seconds since 1970.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    latest REAL NOT NULL
);

CREATE TABLE points (
    series INTEGER NOT NULL REFERENCES series (id),
    at REAL NOT NULL,
    point TEXT NOT NULL
);

CREATE INDEX points_in_time ON points (series, at)
