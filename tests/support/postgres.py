"""A PostgreSQL server from Debian's package, its data in a temporary folder: the database that users run."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn
from uuid import uuid4

import psycopg
import pytest

from tests.support.kafka.apache import HOST, free_ports
from tests.support.waiting import LIMIT, wait_until

FOLDERS = "/usr/lib/postgresql"
ADMIN = "postgres"
SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": 40,
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
    "autovacuum": "off",
}


class Unavailable(Exception):
    """PostgreSQL cannot be had on this machine; the message says what is missing."""


class Postgres:
    """A server on a free port of 127.0.0.1; gone on exit. Passwords are checked, as on any server worth the name."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Postgres":
        self._bin = programs()
        self._home = Path(tempfile.mkdtemp(prefix="fhirline-pg-"))  # short: the path of a socket has 107 characters
        [self.port] = free_ports(1)
        if self._user is not None:
            shutil.chown(self._home, self._user)
        try:
            file = self._home / "password"
            file.write_text(self.password)
            if self._user is not None:
                shutil.chown(file, self._user)
            self._run("initdb", "-D", "data", "-U", ADMIN, "-A", "scram-sha-256", "--pwfile=password", "--no-sync")
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in {**SETTINGS, "port": self.port}.items()]
        with (self._home / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", "data", "-k", str(self._home), *options],
                cwd=self._home,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        wait_until(self._answers, lambda: f"PostgreSQL does not answer:\n{(self._home / 'output').read_text()[-2000:]}")

    def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        """End the server: at once (SIGINT), its transactions rolled back; or as a crash does (SIGQUIT)."""
        assert self._process is not None
        self._process.send_signal(by)
        self._process.wait(LIMIT)
        self._process = None

    def connect(self, database: str = ADMIN, user: str = ADMIN) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=HOST, port=self.port, dbname=database, user=user, password=self.password, autocommit=True
        )

    def give(self, folder: Path) -> None:
        """Make a folder the server's own."""
        if self._user is not None:
            shutil.chown(folder, self._user)

    @contextmanager
    def database(self) -> Iterator["Database"]:
        """Make a database whose owner is a user without any other privilege."""
        name = f"w{uuid4().hex[:8]}"
        with self.connect() as admin:
            admin.execute(f"create role {name} login password '{self.password}'")
            admin.execute(f"create database {name} owner {name}")
        yield Database(self, name)

    @property
    def _user(self) -> str | None:
        """The user of the server, which refuses to be root."""
        return "postgres" if os.geteuid() == 0 else None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._home / "output").read_text()[-2000:]
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self._home,
            user=self._user,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def _remove(self) -> None:
        if self._process is not None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self._home, ignore_errors=True)


class Database:
    """A database on a server, and the settings that lead to it."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name

    @property
    def url(self) -> str:
        return f"postgresql://{self.name}@{HOST}:{self.server.port}/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        return {"FHIRLINE_TABLES_URL": self.url, "FHIRLINE_TABLES_PASSWORD": self.server.password}

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the superuser."""
        with self.server.connect(self.name) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def programs() -> Path:
    """Return the folder of initdb and postgres. Raises Unavailable."""
    found = sorted(Path(FOLDERS).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path is None:
        raise Unavailable("no initdb on the PATH or in /usr/lib/postgresql: install Debian's package postgresql")
    return Path(on_path).resolve().parent


def unavailable(reason: object) -> NoReturn:
    """Skip where PostgreSQL cannot be had; fail in CI, where that would go unseen."""
    if os.environ.get("CI"):
        pytest.fail(f"PostgreSQL is needed in CI: {reason}", pytrace=False)
    pytest.skip(f"no PostgreSQL here: {reason}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that all tests of a process share: each takes a database of its own."""
    try:
        server = Postgres()
        server.__enter__()
    except Unavailable as error:
        unavailable(error)
    try:
        yield server
    finally:
        server.__exit__(None, None, None)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server for one test, which stops it."""
    try:
        with Postgres() as server:
            yield server
    except Unavailable as error:
        unavailable(error)


def wait_for_count(database: Database, statement: str, least: int) -> None:
    """Wait until a query returns at least so many."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        try:
            [[found]] = database.rows(statement)
        except psycopg.errors.UndefinedTable:
            found = 0
        if isinstance(found, int) and found >= least:
            return
        time.sleep(0.05)
    raise AssertionError(f"not {least}: {statement}")
