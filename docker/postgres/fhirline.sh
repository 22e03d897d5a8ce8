#!/bin/bash
# Make the role of `fhirline tables`, which owns the database of the tables and is no superuser. Run by the image of
# PostgreSQL on an empty volume, before research.sh. Afterwards the superuser has no password, and comes by the socket in
# the container only:
#   docker compose -f docker/compose.yaml exec postgres psql --username postgres warehouse
set -euo pipefail

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password FHIRLINE_TABLES_PASSWORD
create role fhirline login password :'password';
alter database :"DBNAME" owner to fhirline;
alter role :"USER" password null;
SQL
