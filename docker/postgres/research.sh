#!/bin/bash
# Make what the tables without identities need: a role with a password of its own, a database of its own, and a role for
# analysts, who may read that database and nothing else. Run by the image of PostgreSQL on an empty volume, and harmless
# when run again:
#   docker compose -f docker/compose.yaml exec postgres bash /docker-entrypoint-initdb.d/research.sh
set -euo pipefail

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password FHIRLINE_RESEARCH_PASSWORD
select format('create role %I', name)
from unnest(array['research', 'researcher']) as name
where not exists (select from pg_roles where rolname = name) \gexec
alter role research login password :'password';
select 'create database research owner research'
where not exists (select from pg_database where datname = 'research') \gexec
revoke all on database :"DBNAME" from public;
revoke all on database research from public;
grant connect on database research to researcher;
\connect research
alter default privileges for role research grant usage on schemas to researcher;
alter default privileges for role research grant select on tables to researcher;
SQL
