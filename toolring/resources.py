"""Resources that ship with toolring, to be asked for by tools' parameters: connections to SQLite, PostgreSQL and HTTP
servers. Each function makes a pool; further settings are those of ``Pool``.

    db = postgres("postgresql://localhost/shop", max=4)

    @tool(read_only=True)
    def customers(name: str, db: psycopg.Connection) -> list: ...
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from toolring.errors import LoadError
from toolring.workers.pools.aio import AsyncPool
from toolring.workers.pools.pool import Pool

if TYPE_CHECKING:
    import httpx
    import psycopg


def sqlite(
    database: str, *, pragmas: tuple[str, ...] = ("journal_mode=WAL",), busy_timeout: float = 5.0, **settings: Any
) -> Pool[sqlite3.Connection]:
    """Connections to a SQLite file.

    Args:
        database: its path, or a ``file:`` URI.
        pragmas: said to each new connection.
        busy_timeout: seconds that a statement waits for another's lock.
        settings: of the ``Pool``. What a call left uncommitted is rolled back.
    """

    def connection() -> Iterator[sqlite3.Connection]:
        made = sqlite3.connect(
            database, timeout=busy_timeout, uri=database.startswith("file:"), check_same_thread=False
        )
        try:
            for pragma in pragmas:
                made.execute(f"PRAGMA {pragma}")
            yield made
        finally:
            made.close()

    return Pool(connection, **{"reset": _rolled_back, "validate": _answers, **settings})


def postgres(conninfo: str = "", *, options: dict[str, Any] | None = None, **settings: Any) -> Pool[psycopg.Connection]:
    """Connections to PostgreSQL, by psycopg 3 (``toolring[postgres]``).

    Args:
        conninfo: as libpq takes it: a URI, or ``host=... dbname=...``; the rest comes from PGHOST and the like.
        options: further arguments of ``psycopg.connect``, as ``{"autocommit": True}``.
        settings: of the ``Pool``. What a call left uncommitted is rolled back, but what it SET stays; a connection that
            the server has ended is replaced.

    Raises:
        LoadError: psycopg is missing.
    """
    driver = _psycopg()

    def connection() -> Iterator[psycopg.Connection]:
        made = driver.connect(conninfo, **{"connect_timeout": 10, **(options or {})})
        try:
            yield made
        finally:
            if made.info.transaction_status == driver.pq.TransactionStatus.ACTIVE:
                made.cancel()  # a call was cut short; the server would not notice, and go on
            made.close()

    return Pool(connection, **{"reset": _clean, "validate": _alive, **settings})


def async_postgres(
    conninfo: str = "", *, options: dict[str, Any] | None = None, **settings: Any
) -> AsyncPool[psycopg.AsyncConnection]:
    """The same for async tools."""
    driver = _psycopg()

    async def connection() -> AsyncIterator[psycopg.AsyncConnection]:
        made = await driver.AsyncConnection.connect(conninfo, **{"connect_timeout": 10, **(options or {})})
        try:
            yield made
        finally:
            if made.info.transaction_status == driver.pq.TransactionStatus.ACTIVE:
                await made.cancel_safe()
            await made.close()

    return AsyncPool(connection, **{"reset": _async_clean, "validate": _async_alive, **settings})


def http(base_url: str = "", *, options: dict[str, Any] | None = None, **settings: Any) -> Pool[httpx.Client]:
    """HTTP clients with their kept connections, by httpx (``toolring[http]``). For a service with several endpoints see
    ``Service``.

    Args:
        base_url: before the paths that are asked for.
        options: further arguments of ``httpx.Client``, as ``{"timeout": 3.0}``.
        settings: of the ``Pool``.

    Raises:
        LoadError: httpx is missing.
    """
    library = _httpx()

    def client() -> Iterator[httpx.Client]:
        with library.Client(base_url=base_url, **(options or {})) as made:
            yield made

    return Pool(client, **{"max_lifetime": 0.0, "idle_timeout": 0.0, "reset": _without_cookies, **settings})


def async_http(
    base_url: str = "", *, options: dict[str, Any] | None = None, **settings: Any
) -> AsyncPool[httpx.AsyncClient]:
    """The same for async tools."""
    library = _httpx()

    async def client() -> AsyncIterator[httpx.AsyncClient]:
        async with library.AsyncClient(base_url=base_url, **(options or {})) as made:
            yield made

    return AsyncPool(client, **{"max_lifetime": 0.0, "idle_timeout": 0.0, "reset": _without_cookies, **settings})


# ---- in order, and ready for the next


def _answers(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT 1")


def _rolled_back(connection: sqlite3.Connection) -> None:
    connection.rollback()


def _alive(connection: psycopg.Connection) -> None:
    connection.execute("SELECT 1")
    connection.rollback()


def _clean(connection: psycopg.Connection) -> bool:
    if not connection.broken:
        connection.rollback()
    return not (connection.broken or connection.closed)


async def _async_alive(connection: psycopg.AsyncConnection) -> None:
    await connection.execute("SELECT 1")
    await connection.rollback()


async def _async_clean(connection: psycopg.AsyncConnection) -> bool:
    if not connection.broken:
        await connection.rollback()
    return not (connection.broken or connection.closed)


def _without_cookies(client: httpx.Client | httpx.AsyncClient) -> None:
    client.cookies.clear()  # they are the caller's whose call it was


def _psycopg() -> Any:
    try:
        import psycopg  # optional: the postgres extra
    except ImportError as error:
        raise LoadError(f"PostgreSQL needs psycopg: pip install 'toolring[postgres]' ({error})") from None
    return psycopg


def _httpx() -> Any:
    try:
        import httpx  # optional: the http extra
    except ImportError as error:
        raise LoadError(f"HTTP clients need httpx: pip install 'toolring[http]' ({error})") from None
    return httpx
