"""Declare the settings of ``fhirline tables`` (docs/warehouse.md)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr


class TablesSettings(BaseModel):
    """Settings to keep SQL tables (docs/warehouse.md)."""

    tables_url: Annotated[
        str | None,
        Field(
            description="Where the tables are: postgresql://user@host/database, without password, duckdb:FILE or "
            "delta:FOLDER"
        ),
    ] = None
    tables_password: Annotated[SecretStr | None, Field(description="Password of the PostgreSQL user")] = None
    tables_password_file: Annotated[
        Path | None, Field(description="File that holds the password; read at each connection")
    ] = None
    tables_schema: Annotated[
        str, Field(pattern=r"^[a-z][a-z0-9_]{0,50}$", description="Schema of the tables in the database")
    ] = "fhir"
    tables_without_identities: Annotated[
        bool, Field(description="Keep the tables without identities instead (docs/without-identities.md)")
    ] = False
    research_schema: Annotated[
        str, Field(pattern=r"^[a-z][a-z0-9_]{0,50}$", description="Schema of the tables without identities")
    ] = "without_identities"
    research_key: Annotated[
        SecretStr | None, Field(description="Secret for hashing ids and moving dates, 32 characters or more")
    ] = None
    research_key_file: Annotated[Path | None, Field(description="File that holds that secret")] = None
    research_dates: Annotated[
        Literal["shift", "year"],
        Field(description="shift: a patient's dates are moved, all by the same days; year: only years are kept"),
    ] = "shift"
    tables_views: Annotated[
        Path | None, Field(description="Folder of ViewDefinitions that extend or replace those that ship")
    ] = None
    tables_batch: Annotated[int, Field(ge=1, le=1_000_000, description="Most records of a transaction")] = 5_000
    tables_batch_bytes: Annotated[
        int, Field(ge=1, description="Bytes of records from which on a transaction takes no more")
    ] = 33_554_432
    tables_within: Annotated[
        float,
        Field(gt=0, le=60, description="Seconds that the first record of a transaction waits for more; Delta: 15"),
    ] = 0.5
