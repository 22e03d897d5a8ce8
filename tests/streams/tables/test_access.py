"""Grants and policies of others on PostgreSQL's tables: a rebuild keeps them, and opens nothing to anybody."""

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.rebuild import Rebuild
from tests.support.kept_tables import OnPostgres, wrong
from tests.support.postgres import Database
from tests.support.tables import keep, write

pytestmark = pytest.mark.long


def rebuild(settings: Settings, *names: str) -> None:
    store = open_store(settings)
    try:
        Rebuild(settings, store, load_catalog(settings).only(names)).of_views()
    finally:
        store.close()


GRANTS = """
select a.attname, g.privilege_type, g.is_grantable, pg_get_userbyid(g.grantee)
from pg_class c
left join pg_attribute a on a.attrelid = c.oid and a.attacl is not null
cross join lateral aclexplode(coalesce(a.attacl, c.relacl)) g
where c.oid = cast('{0}' as regclass) and g.grantee <> c.relowner
union
select null, g.privilege_type, g.is_grantable, pg_get_userbyid(g.grantee)
from pg_class c cross join lateral aclexplode(c.relacl) g
where c.oid = cast('{0}' as regclass) and g.grantee <> c.relowner
order by 1, 2, 3, 4
"""


def test_grants_of_tables_and_columns_are_kept_with_their_options(on_postgres: OnPostgres) -> None:
    """A grant that somebody has revoked stays revoked, also where default privileges would grant it anew."""
    settings, database, records = on_postgres
    one, other = f"one_{database.name}", f'"Other {database.name}"'
    database.rows(f"create role {one}; create role {other}")
    database.rows(f"alter default privileges for role {database.name} grant select on tables to {one}")
    write(settings, records)
    keep(settings)
    database.rows(
        f"revoke select on fhir.patient from {one}; grant select, update on fhir.patient to {other} "
        f"with grant option; grant select (resource_id, gender) on fhir.patient to {one} with grant option; "
        f"grant select on fhir.event to {other} with grant option; revoke select on fhir.event from {one}; "
        "alter table fhir.patient add column note text; grant select (note) on fhir.patient to public"
    )
    before = {name: database.rows(GRANTS.format(name)) for name in ("fhir.patient", "fhir.event", "fhir.record")}
    assert [len(rows) for rows in before.values()] == [5, 1, 1]
    rebuild(settings, "patient", "record")
    after = {name: database.rows(GRANTS.format(name)) for name in before}
    lost = [row for row in before["fhir.patient"] if row[0] == "note"]
    assert after == before | {"fhir.patient": [row for row in before["fhir.patient"] if row not in lost]}
    assert len(lost) == 1
    assert wrong(settings) == {}


def test_policies_of_rows_are_kept(on_postgres: OnPostgres) -> None:
    """A role that may see some rows sees no others after a rebuild."""
    settings, database, records = on_postgres
    one = f"one_{database.name}"
    write(settings, records)
    keep(settings)
    database.rows(
        f"create role {one}; grant usage on schema fhir to {one}; grant select on fhir.patient to {one}; "
        "alter table fhir.patient enable row level security; "
        f"create policy \"only 'some'\" on fhir.patient for select to {one} using (vendor = 'altibbi' or "
        "resource_id in (select r.resource_id from fhir.record r where r.tenant = '50%')); "
        "create policy never on fhir.patient as restrictive for all using (gender is not null) "
        "with check (gender <> '?')"
    )
    policies = "select * from pg_policies where schemaname = 'fhir' order by policyname"
    database.rows(f"grant select on fhir.record to {one}")
    before, rows = database.rows(policies), seen_by(database, one)
    assert len(before) == 2
    assert rows[0][1] == 0
    rebuild(settings, "patient")
    assert (database.rows(policies), seen_by(database, one)) == (before, rows)
    assert wrong(settings) == {}


def seen_by(database: Database, role: str) -> list[tuple[object, ...]]:
    """Return how many patients a role sees, and how many of other vendors than one."""
    with database.server.connect(database.name) as connection:
        connection.execute(f"set role {role}")
        return connection.execute(
            "select count(*), count(*) filter (where vendor <> 'altibbi') from fhir.patient"
        ).fetchall()


def test_a_policy_that_the_new_table_cannot_have_ends_the_rebuild(on_postgres: OnPostgres) -> None:
    settings, database, records = on_postgres
    write(settings, records)
    keep(settings)
    database.rows(
        "alter table fhir.patient add column note text; alter table fhir.patient enable row level security; "
        "create policy noted on fhir.patient using (note is null)"
    )
    with pytest.raises(ConfigurationError, match=r"table patient cannot have a grant or policy .*drop that one"):
        rebuild(settings, "patient")
    database.rows("drop policy noted on fhir.patient")
    rebuild(settings, "patient")
    assert wrong(settings) == {}
