"""psycopg 3: pipelines, COPY, cursors on both sides, prepared statements, cancel, notifications."""

import threading

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from transcript import WAY, quickly, refused, say


def main():
    with psycopg.connect(autocommit=True) as db:
        say("server", db.info.server_version, db.info.encoding, db.info.parameter_status("integer_datetimes"))
        say("who", db.execute("SELECT current_user, current_database()").fetchone())
        types(db)
        notices(db)
        transactions(db)
        prepared(db)
        pipelines(db)
        errors_in_a_pipeline()
        cursors(db)
        copies(db)
        cancels(db)
        notifications(db)
        large_values(db)
    say("closed", db.closed)
    start_up_parameters()
    ways_in()


def types(db):
    row = db.execute(
        "SELECT %s::int, %s::text, %s::bytea, %s::timestamptz, %s::numeric, %s::int[], %s::jsonb, %s::uuid",
        (1, "zwölf", b"\0\xff", "2026-01-01 00:00Z", "1.50", [1, None, 3], '{"a": [1]}', "0" * 32),
    ).fetchone()
    say("types", row)
    for binary in (False, True):
        say("binary", binary, db.execute("SELECT 42::int8, 1.5::float8, 'x'::text, NULL", binary=binary).fetchone())
    say("named", db.cursor(row_factory=dict_row).execute("SELECT 1 AS a, 2 AS b").fetchone())
    with refused(psycopg.errors.UndefinedColumn):
        db.execute("SELECT nonsense")
    results = db.execute("SELECT 1; SELECT 2; CREATE TEMP TABLE t (i int); INSERT INTO t VALUES (1), (2)")
    while True:
        say("result", results.statusmessage, results.rowcount)
        if not results.nextset():
            break


def notices(db):
    heard = []
    db.add_notice_handler(lambda notice: heard.append((notice.severity, notice.message_primary)))
    db.execute("DO $$ BEGIN FOR i IN 1..5 LOOP RAISE NOTICE 'n%', i; RAISE WARNING 'w%', i; END LOOP; END $$")
    say("notices", heard)


def transactions(db):
    with refused(ZeroDivisionError):
        with db.transaction():
            db.execute("INSERT INTO t VALUES (3)")
            raise ZeroDivisionError("ours")
    with db.transaction():
        db.execute("INSERT INTO t VALUES (4)")
        with refused(psycopg.errors.DivisionByZero):
            with db.transaction():
                db.execute("SELECT 1 / 0")
        say("status inside", db.info.transaction_status.name)
    say("rows", db.execute("SELECT i FROM t ORDER BY i").fetchall())


def prepared(db):
    for number in range(12):
        row = db.execute("SELECT %s::int * 2", (number,), prepare=True).fetchone()
        assert row == (number * 2,), row
    say("prepared", db.execute("SELECT count(*) FROM pg_prepared_statements").fetchone())
    db.execute("DEALLOCATE ALL")


def pipelines(db):
    with db.pipeline():
        cursors = [db.execute("SELECT %s::int, repeat('x', 100)", (i,)) for i in range(500)]
    say("pipelined", sum(cursor.fetchone()[0] for cursor in cursors))

    with refused(psycopg.errors.UniqueViolation):
        with db.pipeline(), db.transaction():
            db.execute("CREATE TEMP TABLE u (i int PRIMARY KEY)")
            for i in (1, 2, 2, 3):
                db.execute("INSERT INTO u VALUES (%s)", (i,))
    say("rolled back", db.execute("SELECT to_regclass('u')").fetchone())

    # Far more answers than any buffer holds, and as many questions behind them.
    with db.pipeline():
        cursors = [db.execute("SELECT repeat(%s, 100000)", ("y" * 10,)) for _ in range(30)]
    say("much", sum(len(cursor.fetchone()[0]) for cursor in cursors))


def errors_in_a_pipeline():
    """An error drops what follows up to the next Sync, and nothing after that. By libpq itself: psycopg's pipeline
    tells of an error as soon as it has arrived, which is now here and now there."""
    db = psycopg.pq.PGconn.connect(b"")
    db.enter_pipeline_mode()
    for statement in (b"SELECT 'before'", None, b"SELECT 1 / 0", b"SELECT 'skipped'", None, b"SELECT 'after'", None):
        db.send_query_params(statement, None) if statement else db.pipeline_sync()
    syncs = 0
    while syncs < 3:
        # None separates one statement's results from the next one's.
        while result := db.get_result():
            status = psycopg.pq.ExecStatus(result.status)
            state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
            say("pipeline", status.name, state, result.get_value(0, 0))
            if status == psycopg.pq.ExecStatus.PIPELINE_SYNC:
                syncs += 1
                break
    db.finish()


def cursors(db):
    with db.transaction(), db.cursor(name="on_the_server", scrollable=True) as cursor:
        cursor.execute("SELECT i FROM generate_series(1, 1000) AS i")
        say("fetched", cursor.fetchmany(3))
        cursor.scroll(500, mode="absolute")
        say("scrolled", cursor.fetchone())
        cursor.itersize = 100
        say("rest", sum(row[0] for row in cursor))
    say("streamed", sum(row[0] for row in db.cursor().stream("SELECT i FROM generate_series(1, 3000) AS i")))


def copies(db):
    db.execute("CREATE TEMP TABLE copied (i int, t text)")
    cursor = db.cursor()
    with cursor.copy("COPY copied FROM STDIN") as copy:
        for i in range(5000):
            copy.write_row((i, f"tab\t{i}" if i % 7 else None))
    say("copied", cursor.rowcount)
    with cursor.copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        for i in range(5000):
            copy.write_row((i, "binary"))
    with cursor.copy("COPY copied TO STDOUT (FORMAT binary)") as copy:
        say("bytes", sum(len(block) for block in copy))
    with cursor.copy("COPY copied TO STDOUT") as copy:
        say("rows", sum(1 for _ in copy.rows()))
    with refused(psycopg.errors.BadCopyFileFormat):
        with cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write("1\ttwo\tthree\n")
    with refused(ZeroDivisionError):
        with cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write("1\ttwo\n")
            raise ZeroDivisionError("given up by the client")
    say("after", cursor.execute("SELECT count(*) FROM copied").fetchone())


def cancels(db):
    for cancel in (db.cancel, db.cancel_safe):
        timer = threading.Timer(0.2, cancel)
        timer.start()
        with quickly(), refused(psycopg.errors.QueryCanceled):
            db.execute("SELECT pg_sleep(30)")
        timer.join()
        say("still here", db.execute("SELECT 1").fetchone())


def notifications(db):
    db.execute("LISTEN news")
    with psycopg.connect(autocommit=True) as other:
        for word in ("one", "two", "three"):
            other.execute(sql.SQL("NOTIFY news, {}").format(word))
    say("heard", [note.payload for note in db.notifies(timeout=10, stop_after=3)])


def large_values(db):
    value = bytes(range(256)) * 4 * 1024 * 10
    row = db.execute("SELECT %b::bytea, length(%b::bytea)", (value, value), binary=True).fetchone()
    assert row[0] == value
    say("large", row[1])


def start_up_parameters():
    with psycopg.connect(application_name="a name", options="-c statement_timeout=1234 -c search_path=a,b") as db:
        for name in ("application_name", "statement_timeout", "search_path"):
            say(name, db.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone())


def ways_in():
    """Every way that libpq knows to begin; only TLS from the first byte is beyond PostgreSQL 15 itself."""
    say("libpq", psycopg.pq.version() // 10000)
    ways = [{"max_protocol_version": version} for version in ("3.0", "3.2", "latest")]
    ways += [{"gssencmode": "prefer"}, {"gssencmode": "disable"}]
    if WAY == "native":
        ways += [{"sslnegotiation": "direct", **way} for way in ways]
        ways += [{"sslmode": mode} for mode in ("require", "verify-ca", "verify-full")]
    for way in ways:
        with psycopg.connect(autocommit=True, **way) as db:
            assert db.execute("SELECT current_user").fetchone() == ("jerry",), way
            timer = threading.Timer(0.1, db.cancel_safe)
            timer.start()
            try:
                with quickly():
                    db.execute("SELECT pg_sleep(30)")
                raise AssertionError("nobody cancelled it")
            except psycopg.errors.QueryCanceled:
                timer.join()


main()
