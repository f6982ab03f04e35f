"""mysql-connector-python, both of them: pure Python, and its C extension, which is MySQL's own client library."""

import sys

import mysql.connector

from mysql_play import (
    AUTHORITIES,
    CERTIFICATE,
    DATABASE,
    HOST,
    KEY,
    MIB,
    PORT,
    SCRIPT,
    SOCKET,
    USER,
    WAY,
    play,
    refuses_another_user,
    refused,
)
from transcript import say

PURE = sys.argv[1] == "pure"


def connect(**more):
    where = {"unix_socket": SOCKET} if SOCKET else {"host": HOST, "port": PORT}
    tls = {"ssl_ca": AUTHORITIES, "ssl_cert": CERTIFICATE, "ssl_key": KEY, "ssl_verify_identity": True}
    return mysql.connector.connect(
        user=USER,
        database=DATABASE,
        use_pure=PURE,
        allow_local_infile=True,
        charset="utf8mb4",
        collation="utf8mb4_general_ci",
        **where,
        **(tls if CERTIFICATE else {"ssl_disabled": True}),
        **more,
    )


def main():
    play(connect)
    play(lambda: connect(compress=True), size=20 * MIB if PURE else 3 * MIB)
    db = connect()
    cursor = db.cursor()
    for statement in (SCRIPT, "CALL three_results(7)"):
        cursor.execute(statement)
        while True:
            say("result", cursor.rowcount, cursor.fetchall() if cursor.with_rows else None)
            if not cursor.nextset():
                break
    prepared(db)
    db.ping()
    cursor.execute("SET @left = 'behind'")
    db.cmd_reset_connection()
    cursor.execute("SELECT @left")
    say("reset", cursor.fetchone())
    with refused(mysql.connector.Error):
        db.cmd_init_db("nowhere")
    refuses_another_user(lambda: db.cmd_change_user(username="olga", database=DATABASE))
    cursor.execute("SELECT 'the same session'")
    say(cursor.fetchone())
    db.close()


def prepared(db):
    """The binary protocol: prepared once, executed often; long data in pieces."""
    cursor = db.cursor(prepared=True)
    for number in range(12):
        cursor.execute("SELECT ? + 1, ?, ?", (number, f"n{number}", None))
        row = cursor.fetchone()
        assert row[1:] == (f"n{number}", None) and int(row[0]) == number + 1, row
    say("prepared", row)
    cursor.execute("SELECT LENGTH(?), MD5(?)", (b"b" * 1_000_000, b"b" * 1_000_000))
    say("long", cursor.fetchone())
    cursor.close()


main()
