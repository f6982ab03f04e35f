"""Statements of the extended protocol for the audit trail: one that is answered, one that fails."""

import psycopg

with psycopg.connect(autocommit=True) as db:
    rows = db.execute(
        "SELECT item FROM orders WHERE id > %t::int AND item <> %t AND %b::bytea IS NOT NULL AND %t::text IS NULL",
        (1, "hunter2", b"\0\xff", None),
    ).fetchall()
    print(sorted(rows))
    try:
        db.execute("SELECT 10 / %t::int", (0,))
    except psycopg.errors.DivisionByZero as error:
        print(error.sqlstate)
