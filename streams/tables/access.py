"""Grants and row-level policies of a PostgreSQL table, which the table that replaces it has to keep.

Grants of tables and columns are kept, with their grant options, and policies of row-level security. Without the latter
a role would read rows after a rebuild that it must not see. For the same reason a replacement loses what default
privileges have granted, and the table that it replaces did not.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fhirline.streams.tables.store import Store, quoted

_TABLE = "c.relname = ? and c.relnamespace = (select oid from pg_namespace where nspname = ?)"
_GRANTEE = "case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end"
_COMMANDS = {"*": "all", "r": "select", "a": "insert", "w": "update", "d": "delete"}


def kept_access(store: Store, name: str, columns: Sequence[str]) -> list[str]:
    """Return the statements that give a replacement of a table, with these columns, the access rules that it has."""
    return [*_grants(store, name, columns), *_row_security(store, name), *_policies(store, name)]


def revoke_grants(store: Store, name: str) -> None:
    """Revoke what default privileges have granted on a new table."""
    found = store.rows(
        f"select distinct {_GRANTEE} from pg_class c cross join lateral aclexplode(c.relacl) a "
        f"where {_TABLE} and a.grantee <> c.relowner",
        [name, store.schema],
    )
    for (role,) in found:
        store.run(f"revoke all on {store.of(name)} from {role} cascade")


def _grants(store: Store, name: str, columns: Sequence[str]) -> Iterator[str]:
    of_table = store.rows(
        f"select a.privilege_type, '', {_GRANTEE}, a.is_grantable "
        f"from pg_class c cross join lateral aclexplode(c.relacl) a where {_TABLE} and a.grantee <> c.relowner",
        [name, store.schema],
    )
    of_columns = store.rows(
        f"select a.privilege_type, ' (' || quote_ident(t.attname) || ')', {_GRANTEE}, a.is_grantable "
        "from pg_class c join pg_attribute t on t.attrelid = c.oid cross join lateral aclexplode(t.attacl) a "
        f"where {_TABLE} and a.grantee <> c.relowner and t.attname = any(?)",
        [name, store.schema, list(columns)],
    )
    for privilege, column, role, grantable in (*of_table, *of_columns):
        option = " with grant option" if grantable else ""
        yield f"grant {privilege}{column} on {store.of(name)} to {role}{option}"


def _row_security(store: Store, name: str) -> Iterator[str]:
    for enabled, forced in store.rows(
        f"select c.relrowsecurity, c.relforcerowsecurity from pg_class c where {_TABLE}", [name, store.schema]
    ):
        if enabled:
            yield f"alter table {store.of(name)} enable row level security"
        if forced:
            yield f"alter table {store.of(name)} force row level security"


def _policies(store: Store, name: str) -> Iterator[str]:
    found: list[tuple[Any, ...]] = store.rows(
        "select p.polname, p.polpermissive, cast(p.polcmd as text), "
        "array(select case when r.id = 0 then 'public' else quote_ident(pg_get_userbyid(r.id)) end "
        "from unnest(p.polroles) as r(id)), "
        "pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid) "
        f"from pg_policy p join pg_class c on c.oid = p.polrelid where {_TABLE} order by p.polname",
        [name, store.schema],
    )
    for policy, permissive, command, roles, condition, check in found:
        yield (
            f"create policy {quoted(policy)} on {store.of(name)} as {'permissive' if permissive else 'restrictive'} "
            f"for {_COMMANDS[command]} to {', '.join(roles)}"
            f"{f' using ({condition})' if condition else ''}{f' with check ({check})' if check else ''}"
        )
