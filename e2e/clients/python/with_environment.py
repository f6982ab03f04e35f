"""Connects with nothing but libpq's environment variables."""

import asyncio

import asyncpg
import psycopg
import psycopg2

WHO = "SELECT current_user || '@' || current_database()"


async def with_asyncpg():
    db = await asyncpg.connect(timeout=20)
    print("asyncpg", await db.fetchval(WHO))
    await db.close()


with psycopg.connect() as db:
    print("psycopg", db.execute(WHO).fetchone()[0])
db = psycopg2.connect("")
cursor = db.cursor()
cursor.execute(WHO)
print("psycopg2", cursor.fetchone()[0])
db.close()
asyncio.run(with_asyncpg())
