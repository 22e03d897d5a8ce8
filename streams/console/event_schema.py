"""The tables of the console's index of events, and their indexes."""

SCHEMA = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY, event_key TEXT, vendor TEXT, tenant TEXT, type TEXT, raw TEXT,
    occurred TEXT, received INTEGER, written INTEGER, mapping TEXT,
    provenance TEXT, provenance_partition INTEGER, provenance_offset INTEGER, provenance_key BLOB,
    bundle TEXT, bundle_partition INTEGER, bundle_offset INTEGER,
    outcome TEXT, outcome_partition INTEGER, outcome_offset INTEGER, outcome_key BLOB,
    came INTEGER GENERATED ALWAYS AS (coalesce(received, written)) VIRTUAL,
    became TEXT NOT NULL DEFAULT 'mapped', delivery TEXT, tabled INTEGER NOT NULL DEFAULT 0,
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

CREATE TABLE letter (id TEXT PRIMARY KEY, vendor TEXT, tenant TEXT, event_key TEXT, type TEXT, received INTEGER);
CREATE INDEX letter_by_time ON letter (received DESC);
CREATE INDEX letter_by_type ON letter (vendor, type, received DESC);
CREATE INDEX letter_by_event ON letter (vendor, tenant, event_key);
CREATE TABLE progress (topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE parked (
    partition INTEGER, bundle_offset INTEGER, refused INTEGER, PRIMARY KEY (partition, bundle_offset)) WITHOUT ROWID;
"""

INDEXES_OF_PROGRESS = """
CREATE INDEX event_by_became ON event (vendor, type, became, written DESC);
CREATE INDEX event_by_delivery ON event (vendor, type, delivery, written DESC) WHERE delivery IS NOT NULL;
CREATE INDEX event_by_came ON event (vendor, type, came DESC, became);
CREATE INDEX event_by_tabled ON event (vendor, type, written DESC) WHERE tabled;
CREATE INDEX event_by_provenance_offset ON event (provenance_partition, provenance_offset);
CREATE INDEX event_by_bundle_offset ON event (bundle_partition, bundle_offset);
CREATE INDEX event_by_outcome_offset ON event (outcome_partition, outcome_offset);
"""
"""Indexes that are made once the topics have been read. Made before, they would make the reading half as long again."""
