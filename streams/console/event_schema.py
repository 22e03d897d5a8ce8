"""The tables of the console's index of events."""

SCHEMA = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY, event_key TEXT, vendor TEXT, tenant TEXT, type TEXT, raw TEXT,
    occurred TEXT, received INTEGER, written INTEGER, mapping TEXT,
    provenance TEXT, provenance_key BLOB, bundle TEXT, outcome TEXT, outcome_key BLOB,
    UNIQUE (vendor, tenant, event_key));
CREATE INDEX event_by_time ON event (written DESC);
CREATE INDEX event_by_type ON event (vendor, type, written DESC);
CREATE INDEX event_by_key ON event (event_key);
CREATE INDEX event_by_raw ON event (raw);
CREATE INDEX event_by_provenance ON event (provenance_key);
CREATE INDEX event_by_outcome ON event (outcome_key);
CREATE TABLE target (resource TEXT, event INTEGER);
CREATE INDEX target_by_resource ON target (resource);
CREATE INDEX target_by_event ON target (event);
CREATE TABLE flag (event INTEGER, code TEXT, PRIMARY KEY (event, code)) WITHOUT ROWID;
CREATE INDEX flag_by_code ON flag (code);
CREATE TABLE newer (event INTEGER, resource TEXT, PRIMARY KEY (event, resource)) WITHOUT ROWID;
CREATE TABLE erased (provenance_key BLOB PRIMARY KEY) WITHOUT ROWID;
"""
