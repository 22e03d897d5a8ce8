"""Opening the database that ``FHIRLINE_TABLES_URL`` names."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import secret
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.tables.store import Store
from fhirline.topics.tables_group import POSTGRES, tables_schema

if TYPE_CHECKING:
    from fhirline.streams.tables.delta.lakehouse import Lakehouse

URL = f"{PREFIX}TABLES_URL"
DUCK = "duckdb:"
DELTA = "delta:"
FORMS = "postgresql://user@host:port/database, duckdb:FILE or delta:FOLDER"


def open_store(settings: Settings, read_only: bool = False) -> Store:
    """Open the database. ``read_only``: a DuckDB file must be there, and is not changed.

    Raises ConfigurationError, or StoreUnavailable where it does not answer.
    """
    url = settings.tables_url
    if url is None:
        raise ConfigurationError(f"{URL} is not set: name the database of the tables, {FORMS}")
    if url.startswith(POSTGRES):
        _require_no_password(url)
        _require("psycopg")
        from fhirline.streams.tables.postgres import PostgresStore

        return PostgresStore(url, lambda: secret(settings, "tables_password"), tables_schema(settings))
    if url.startswith(DUCK) and url != DUCK:
        _require("duckdb", "pyarrow")
        from fhirline.streams.tables.duck import DuckStore

        return DuckStore(Path(url.removeprefix(DUCK)), tables_schema(settings), read_only)
    if is_lakehouse(settings):
        raise ConfigurationError(f"{URL}: {url}: is a lakehouse, which this command has no use for")
    raise ConfigurationError(f"{URL}: must be {FORMS}")


def is_lakehouse(settings: Settings) -> bool:
    """Tell whether the tables are Delta tables. These have no SQL database, so no `Store`, but a `Lakehouse`."""
    return (settings.tables_url or "").startswith(DELTA)


def open_lakehouse(settings: Settings) -> "Lakehouse":
    """Open the folder that ``FHIRLINE_TABLES_URL`` names. Raises ConfigurationError."""
    folder = (settings.tables_url or "").removeprefix(DELTA)
    if not folder or "://" in folder:
        raise ConfigurationError(
            f"{URL}: must be delta:FOLDER, a folder of this machine: object stores are not supported "
            "(docs/lakehouse.md, Limits)"
        )
    _require("deltalake", "pyarrow", extra="lakehouse")
    from fhirline.streams.tables.delta.lakehouse import Lakehouse

    return Lakehouse(Path(folder), tables_schema(settings))


def _require_no_password(url: str) -> None:
    """Raise ConfigurationError for a URL with a password, which `fhirline settings` and process lists would show."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(f"{URL}: is no URL; must be {FORMS}") from None
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ConfigurationError(f"{URL}: holds a password: set {PREFIX}TABLES_PASSWORD_FILE instead")


def _require(*modules: str, extra: str = "tables") -> None:
    if missing := [name for name in modules if find_spec(name) is None]:
        raise ConfigurationError(f"{URL}: {missing[0]} is not installed: pip install 'fhirline[{extra}]'")
