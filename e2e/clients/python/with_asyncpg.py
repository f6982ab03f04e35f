"""asyncpg: a protocol implementation of its own, binary throughout; direct TLS where the sidecar offers it."""

import asyncio
import datetime
import io
import os
import ssl

import asyncpg

from transcript import WAY, quickly, refused, say

DEADLINE = 30


async def main():
    await session(await asyncpg.connect(timeout=DEADLINE))
    await pool()
    # PostgreSQL 15 cannot do this, so there is nothing to compare with: it has to work, that is all.
    if WAY == "native":
        await direct_tls()


async def session(db):
    say("who", await db.fetchrow("SELECT current_user, current_database()"))
    say("server", db.get_server_version(), db.get_settings().server_encoding, db.get_settings().TimeZone)
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    say("types", await db.fetchrow(
        "SELECT $1::int, $2::text, $3::bytea, $4::timestamptz, $5::int[], $6::numeric", 1, "zwölf", b"\0\xff", at, [1, None], 2
    ))
    with refused(asyncpg.UndefinedColumnError):
        await db.fetch("SELECT nonsense")
    say("several", await db.execute("CREATE TEMP TABLE t (i int); INSERT INTO t VALUES (1), (2); SELECT 1"))
    await db.executemany("INSERT INTO t VALUES ($1)", [(i,) for i in range(2000)])
    with refused(asyncpg.DivisionByZeroError):
        await db.executemany("INSERT INTO t VALUES (1 / $1)", [(1,), (0,), (2,)])
    say("rows", await db.fetchval("SELECT count(*) FROM t"))

    statement = await db.prepare("SELECT $1::int AS a, $2::text AS b")
    say("prepared", [p.name for p in statement.get_parameters()], [a.name for a in statement.get_attributes()])
    for i in range(100):
        assert await statement.fetchrow(i, "x") == (i, "x")

    async with db.transaction():
        total = 0
        async for row in db.cursor("SELECT i FROM generate_series(1, 1000) AS i", prefetch=30):
            total += row["i"]
        cursor = await db.cursor("SELECT i FROM generate_series(1, 1000) AS i")
        await cursor.forward(500)
        say("cursor", total, await cursor.fetchrow(), len(await cursor.fetch(10)))

    with refused(asyncpg.UniqueViolationError):
        async with db.transaction():
            await db.execute("CREATE TEMP TABLE u (i int PRIMARY KEY)")
            async with db.transaction():
                await db.execute("INSERT INTO u VALUES (1)")
            await db.execute("INSERT INTO u VALUES (1)")

    say("copied in", await db.copy_records_to_table("t", records=[(i,) for i in range(5000)]))
    out = io.BytesIO()
    say("copied out", await db.copy_from_query("SELECT i FROM t WHERE i < $1", 100, output=out), len(out.getvalue()))
    with refused(asyncpg.BadCopyFileFormatError):
        await db.copy_to_table("t", source=io.BytesIO(b"1\t2\n"))

    notices = []
    db.add_log_listener(lambda _, message: notices.append(message.message))
    await db.execute("DO $$ BEGIN FOR i IN 1..5 LOOP RAISE NOTICE 'n%', i; END LOOP; END $$")
    say("notices", notices)

    # A timeout of asyncpg's is a CancelRequest on a connection of its own.
    with quickly(), refused(asyncio.TimeoutError, TimeoutError):
        await db.fetch("SELECT pg_sleep(30)", timeout=0.2)
    say("still here", await db.fetchval("SELECT 1"))

    heard = asyncio.Queue()
    await db.add_listener("news", lambda _c, _pid, channel, payload: heard.put_nowait((channel, payload)))
    other = await asyncpg.connect(timeout=DEADLINE)
    await other.execute("NOTIFY news, 'it is raining'")
    say("heard", await asyncio.wait_for(heard.get(), 10))
    await other.close()

    value = bytes(range(256)) * 40_000
    assert await db.fetchval("SELECT $1::bytea", value) == value
    await db.reset()
    await db.close()
    say("closed", db.is_closed())


async def pool():
    async with asyncpg.create_pool(min_size=2, max_size=5, timeout=DEADLINE) as connections:
        numbers = await asyncio.gather(*(connections.fetchval("SELECT $1::int * 2", i) for i in range(200)))
        say("pooled", sum(numbers))


async def direct_tls():
    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    context.load_cert_chain(os.environ["PGSSLCERT"], os.environ["PGSSLKEY"])
    context.set_alpn_protocols(["postgresql"])
    db = await asyncpg.connect(ssl=context, direct_tls=True, timeout=DEADLINE)
    assert await db.fetchval("SELECT current_user") == "jerry"
    with quickly(), refused_silently():
        await db.fetch("SELECT pg_sleep(30)", timeout=0.2)
    assert await db.fetchval("SELECT 1") == 1
    await db.close()


class refused_silently:
    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        assert kind is not None, "nothing was refused"
        return issubclass(kind, (asyncio.TimeoutError, TimeoutError))


asyncio.run(asyncio.wait_for(main(), 50))
