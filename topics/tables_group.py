"""The consumer group in which processes of ``fhirline tables`` share the partitions of one database's tables.

Its name has a digest of the database's address and the schema. If two databases had the same group, their processes
would share the partitions, and each database would silently have only a part of the rows. Two addresses of the same
database are two groups, which is safe: the tables are fenced by their positions (docs/design/tables.md §4).
"""

import hashlib
from urllib.parse import parse_qs, urlsplit

from fhirline.config.settings import Settings

POSTGRES = ("postgresql://", "postgres://")


def tables_schema(settings: Settings) -> str:
    """Return the schema of the tables: those without identities have one of their own."""
    return settings.research_schema if settings.tables_without_identities else settings.tables_schema


def tables_group(settings: Settings) -> str:
    """Return the group id of a process that joins no group. librdkafka still looks up the group's coordinator."""
    return f"{settings.group}.tables"


def shared_tables_group(settings: Settings) -> str | None:
    """Return the group that processes join to share partitions; None for a database that one process only can write.

    >>> shared_tables_group(Settings(tables_url="postgresql://writer@db.internal:5432/warehouse?sslmode=require"))
    'fhirline.tables.3c3c2d72'
    """
    if not (settings.tables_url or "").startswith(POSTGRES):
        return None
    try:
        parts = urlsplit(settings.tables_url or "")
        query = parse_qs(parts.query)
    except ValueError:  # refused when the database is opened
        return None
    named = [name for key in ("host", "hostaddr", "port", "dbname") for name in query.get(key, ())]
    place = [parts.netloc.rpartition("@")[2], parts.path, *named, tables_schema(settings)]
    return f"{tables_group(settings)}.{hashlib.sha256('|'.join(place).encode()).hexdigest()[:8]}"
