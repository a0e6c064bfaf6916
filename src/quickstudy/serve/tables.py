"""Floor 6: the tables of the service's database, and how it is opened: SQLite, or PostgreSQL for several replicas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from quickstudy.errors import InputError, StorageError

__all__ = ["examples", "keys", "open_database", "requests", "tasks"]

FILE = "tasks.sqlite"
_WAIT = 30_000  # milliseconds that a writer waits for another one

metadata = sa.MetaData()

keys = sa.Table(
    "access_keys",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("created", sa.String(40), nullable=False),
    sa.Column("expires", sa.String(40)),
    sa.Column("revoked", sa.String(40)),
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("learner", sa.Text, nullable=False),
    sa.Column("reject_unknown", sa.Float),
    sa.Column("kind", sa.String(16)),
    sa.Column("columns", sa.Integer),  # of rows
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("following", sa.Integer, nullable=False),  # the number of the next example
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created", sa.String(40), nullable=False),
    sa.Column("changed", sa.String(40), nullable=False),
    # What the learner turned out to be when it was last learned; no part of the revision.
    sa.Column("learned_revision", sa.Integer),
    sa.Column("learned_name", sa.Text),
    sa.Column("learned_why", sa.Text),
    sa.Column("learned_well", sa.Boolean),
)
sa.Index("tasks_of_owner", tasks.c.owner, tasks.c.created, tasks.c.id)

examples = sa.Table(
    "examples",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("task", sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("media", sa.String(64), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.String(40), nullable=False),
    sa.UniqueConstraint("task", "number"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("task", sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("added", sa.Text, nullable=False),  # ids and labels, as JSON
    sa.Column("created", sa.String(40), nullable=False),
)


def open_database(folder: Path, address: str | None = None) -> sa.Engine:
    """The database, with its tables; made where it is not there yet.

    Args:
        folder: of the SQLite file, where no address is given.
        address: of another database, as SQLAlchemy writes it.

    Raises:
        InputError: the address is none, or the package that speaks to such a database is missing.
        StorageError: it cannot be opened.
    """
    try:
        if address is None:
            folder.mkdir(parents=True, exist_ok=True)
            address = f"sqlite:///{(folder / FILE).resolve()}"
        url = _with_driver(address)
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise InputError(f"Cannot keep tasks in {url.get_backend_name()}: SQLite and PostgreSQL are known here.")
        engine = sa.create_engine(url, **_options(address))
        if engine.dialect.name == "sqlite":
            _make_durable(engine)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # replicas that start together make the tables once
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7308327)"))
            metadata.create_all(connection)
    except OSError as error:
        raise StorageError(f"Cannot keep tasks in {folder}: {error.strerror or error}. Give another folder.") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError(
            f"The address of the database is none that can be used ({_first_line(error)}). Write "
            "postgresql://USER:PASSWORD@HOST/NAME."
        ) from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"Cannot speak to the database: the package {error.name} is not installed. Run pip install "
            "'quickstudy[serve]'."
        ) from error
    except SQLAlchemyError as error:
        raise StorageError(
            f"Cannot open the database: {_first_line(error)}. Check its address and that it runs."
        ) from error
    return engine


def _with_driver(address: str) -> sa.URL:
    url = sa.make_url(address)
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _options(address: str) -> Mapping[str, Any]:
    if address.startswith("sqlite"):
        return {"connect_args": {"timeout": _WAIT / 1000, "check_same_thread": False}, "pool_size": 16}
    # A server that was started again between two requests is met by a new connection.
    return {"pool_pre_ping": True, "pool_size": 16, "connect_args": {"connect_timeout": 10}}


def _make_durable(engine: sa.Engine) -> None:
    """What was committed is on the disk; readers do not wait for the writer; writers wait for each other at the start.

    Python's sqlite3 begins transactions where it sees fit, and a reader that turns into a writer may find that it
    cannot. So every transaction says at its beginning what it will be.
    """

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None
        for setting in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_WAIT}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _first_line(error: Exception) -> str:
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    return (said[0] if said else type(error).__name__).rstrip(".")
