"""pg8000: pure Python, the extended protocol with the unnamed statement."""

import io
import os
import ssl

import pg8000.dbapi as pg8000
import pg8000.native

from transcript import WAY, refused, say


def arguments():
    settings = {"user": os.environ["PGUSER"], "database": os.environ["PGDATABASE"], "timeout": 30}
    if WAY == "plain":
        settings["unix_sock"] = f"{os.environ['PGHOST']}/.s.PGSQL.{os.environ['PGPORT']}"
        return settings
    settings.update(host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]))
    if WAY == "native":
        context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
        context.load_cert_chain(os.environ["PGSSLCERT"], os.environ["PGSSLKEY"])
        settings["ssl_context"] = context
    return settings


def main():
    db = pg8000.connect(**arguments())
    cursor = db.cursor()
    cursor.execute("SELECT current_user, current_database()")
    say("who", cursor.fetchone())
    cursor.execute("SELECT %s::int, %s::text, %s::bytea, %s::int[]", (1, "zwölf", b"\0\xff", [1, 2]))
    say("types", cursor.fetchone())
    with refused(pg8000.DatabaseError):
        cursor.execute("SELECT nonsense")
    db.rollback()
    cursor.execute("CREATE TEMP TABLE t (i int, t text)")
    cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(i, "x") for i in range(200)])
    cursor.execute("COPY t FROM STDIN", stream=io.BytesIO(b"".join(b"%d\ty\n" % i for i in range(5000))))
    say("copied in", cursor.rowcount)
    out = io.BytesIO()
    cursor.execute("COPY t TO STDOUT", stream=out)
    say("copied out", len(out.getvalue()))
    with refused(pg8000.DatabaseError):
        cursor.execute("COPY t FROM STDIN", stream=io.BytesIO(b"one\ttwo\n"))
    db.rollback()
    cursor.execute("SELECT repeat('x', 1000000), i FROM generate_series(1, 5) AS i")
    say("large", sum(len(row[0]) for row in cursor.fetchall()))
    db.close()

    native = pg8000.native.Connection(**arguments())
    native.run("DO $$ BEGIN FOR i IN 1..5 LOOP RAISE NOTICE 'n%', i; END LOOP; END $$")
    say("notices", [notice[b"M"] for notice in native.notices])
    native.run("LISTEN news")
    native.run("NOTIFY news, 'it is raining'")
    say("heard", [(channel, payload) for _pid, channel, payload in native.notifications])
    statement = native.prepare("SELECT :a::int + 1")
    say("prepared", [statement.run(a=i) for i in range(3)])
    statement.close()
    native.close()


main()
