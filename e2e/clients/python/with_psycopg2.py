"""psycopg2: what most programs in the field still use."""

import io
import select
import threading

import psycopg2
import psycopg2.errors
import psycopg2.extras

from transcript import quickly, refused, say


def main():
    db = psycopg2.connect("")
    cursor = db.cursor()
    say("who", one(cursor, "SELECT current_user, current_database()"), db.server_version, db.encoding)
    say("types", one(cursor, "SELECT %s, %s, %s::numeric, %s", (1, "zwölf", "1.50", [1, 2])))
    with refused(psycopg2.errors.UndefinedColumn):
        cursor.execute("SELECT nonsense")
    with refused(psycopg2.errors.InFailedSqlTransaction):
        cursor.execute("SELECT 1")
    db.rollback()

    cursor.execute("CREATE TEMP TABLE copied (i int, t text)")
    cursor.copy_expert("COPY copied FROM STDIN", io.StringIO("".join(f"{i}\tx{i}\n" for i in range(5000))))
    out = io.StringIO()
    cursor.copy_expert("COPY copied TO STDOUT", out)
    say("copied", len(out.getvalue()))
    psycopg2.extras.execute_values(cursor, "INSERT INTO copied VALUES %s", [(i, "y") for i in range(500)])
    say("rows", one(cursor, "SELECT count(*) FROM copied"))

    with db.cursor("on_the_server") as named:
        named.itersize = 100
        named.execute("SELECT i FROM generate_series(1, 1000) AS i")
        say("fetched", sum(row[0] for row in named))
    db.commit()

    lob = db.lobject(0, "wb")
    lob.write(bytes(range(256)) * 1000)
    lob.seek(1000)
    lob.truncate(200_000)
    oid = lob.oid
    lob.close()
    lob = db.lobject(oid, "rb")
    lob.seek(511)
    say("large object", lob.read(3), len(lob.read()))
    lob.unlink()
    db.commit()

    cursor.execute("DO $$ BEGIN FOR i IN 1..5 LOOP RAISE NOTICE 'n%', i; END LOOP; END $$")
    say("notices", db.notices)

    timer = threading.Timer(0.2, db.cancel)
    timer.start()
    with quickly(), refused(psycopg2.errors.QueryCanceled):
        cursor.execute("SELECT pg_sleep(30)")
    timer.join()
    db.rollback()

    db.autocommit = True
    cursor.execute("LISTEN news")
    other = psycopg2.connect("")
    other.autocommit = True
    other.cursor().execute("NOTIFY news, 'it is raining'")
    other.close()
    while not db.notifies:
        assert select.select([db], [], [], 10)[0], "no notification"
        db.poll()
    say("heard", [(note.channel, note.payload) for note in db.notifies])

    say("status", db.get_transaction_status(), db.status)
    db.close()


def one(cursor, statement, values=None):
    cursor.execute(statement, values)
    return cursor.fetchone()


main()
