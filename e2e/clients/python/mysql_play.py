"""What every DB-API driver of MySQL is asked to do: values, errors, several results, large rows, files, kills.

The four drivers speak for themselves in what they print; a driver that cannot do something says so in its own script."""

import os

from transcript import WAY, quickly, refused, say

USER = os.environ["MYSQL_USER"]
DATABASE = os.environ["MYSQL_DATABASE"]
HOST = os.environ.get("MYSQL_HOST")
PORT = int(os.environ.get("MYSQL_PORT", 0))
SOCKET = os.environ.get("MYSQL_SOCKET")
AUTHORITIES, CERTIFICATE, KEY = (os.environ.get(f"MYSQL_SSL_{name}") for name in ("CA", "CERT", "KEY"))
FILE = os.environ["TOUCHSTONE_FILE"]
MIB = 1024 * 1024

SCRIPT = """
CREATE TEMPORARY TABLE several (i INT);
INSERT INTO several VALUES (1), (2), (3);
SELECT i, i * i FROM several;
UPDATE several SET i = i + 10 WHERE i > 1;
SELECT 'last' AS word
"""


def play(connect, size=20 * MIB, edges=False):
    """`connect(**more)` opens a connection in the driver's own words. `size`: of the large row. `edges`: with packets of
    exactly the longest length."""
    db = connect()
    cursor = db.cursor()
    cursor.execute("SELECT VERSION(), DATABASE(), @@autocommit, @@character_set_client")
    say("server", cursor.fetchone())
    values(cursor)
    errors(cursor)
    transactions(db, cursor)
    many(db, cursor)
    large(cursor, size)
    if edges:
        exactly_full(cursor)
    files(db, cursor)
    kills(db, cursor, connect)
    cursor.close()
    db.close()


def values(cursor):
    cursor.execute(
        "SELECT %s, %s, HEX(%s), %s, CAST(%s AS DECIMAL(10, 2)), CAST(%s AS DATETIME), REPEAT(%s, 300)",
        (1, "zw\u00f6lf", b"\0\xff", None, "1.50", "2026-01-01 00:00:00", "\U0001f511"),
    )
    row = cursor.fetchone()
    say("values", row[:6], len(row[6]))
    say("columns", [(column[0], column[1]) for column in cursor.description][:2])
    cursor.execute("SELECT 1 FROM DUAL WHERE 1 = 0")
    say("nothing", cursor.fetchall(), cursor.rowcount)


def errors(cursor):
    for statement in ("SELECT nonsense", "SELEC 1", "SELECT * FROM nowhere.at_all", "KILL 4294967290"):
        with refused():
            cursor.execute(statement)
    cursor.execute("SELECT 'still here'")
    say(cursor.fetchone())
    cursor.execute("SELECT 1 / 0")
    cursor.fetchall()
    cursor.execute("SHOW WARNINGS")
    say("warnings", cursor.fetchall())


def transactions(db, cursor):
    cursor.execute("CREATE OR REPLACE TABLE kept (i INT PRIMARY KEY)")
    cursor.execute("INSERT INTO kept VALUES (1)")
    db.rollback()
    cursor.execute("INSERT INTO kept VALUES (2)")
    db.commit()
    with refused():
        cursor.execute("INSERT INTO kept VALUES (2)")
    db.rollback()
    cursor.execute("SELECT i FROM kept")
    say("kept", cursor.fetchall())


def several(db, cursor, next_result):
    """Statements one after the other, and a procedure with results of its own. `next_result` says whether there is one more."""
    for statement in (SCRIPT, "CALL three_results(7)"):
        cursor.execute(statement)
        while True:
            say("result", cursor.rowcount, cursor.fetchall() if cursor.description else None)
            if not next_result():
                break
    cursor.execute("SELECT 1")
    say(cursor.fetchall())


def many(db, cursor):
    cursor.execute("CREATE TEMPORARY TABLE counted (i INT, t TEXT)")
    cursor.executemany("INSERT INTO counted VALUES (%s, %s)", [(i, f"line {i}") for i in range(5000)])
    db.commit()
    cursor.execute("SELECT COUNT(*), SUM(i), MAX(t) FROM counted")
    say("many", cursor.fetchone())
    cursor.execute("SELECT i, t FROM counted ORDER BY i")
    say("all of them", sum(row[0] + len(row[1]) for row in cursor.fetchall()))
    # Answers of a few packets each, one after the other.
    total = 0
    for i in range(100):
        cursor.execute("SELECT %s + 0", (i,))
        total += int(cursor.fetchone()[0])
    say("one by one", total)


def large(cursor, size):
    """Rows and statements of more than one packet."""
    cursor.execute("SELECT REPEAT('x', %s)", (size,))
    say("large row", len(cursor.fetchone()[0]))
    cursor.execute("CREATE TEMPORARY TABLE big (b LONGBLOB)")
    cursor.execute("INSERT INTO big VALUES (%s)", ("y" * (size * 17 // 20),))
    cursor.execute("SELECT LENGTH(b), MD5(b) FROM big")
    say("large statement", cursor.fetchone())


def exactly_full(cursor):
    """2^24 - 1 bytes are continued by an empty packet."""
    # A row is a length of four bytes and the text; a statement is the command's byte and its text.
    cursor.execute("SELECT REPEAT('z', %s)", (2**24 - 5,))
    say("row of a packet", len(cursor.fetchone()[0]))
    text = "SELECT LENGTH('" + "w" * (2**24 - 2 - len("SELECT LENGTH('')")) + "')"
    cursor.execute(text)
    say("statement of a packet", len(text), cursor.fetchone())


def files(db, cursor):
    cursor.execute("CREATE TEMPORARY TABLE loaded (i INT, t TEXT)")
    cursor.execute(f"LOAD DATA LOCAL INFILE '{FILE}' INTO TABLE loaded")
    db.commit()
    cursor.execute("SELECT COUNT(*), SUM(i), MD5(GROUP_CONCAT(t ORDER BY i)) FROM loaded")
    say("loaded", cursor.fetchone())


def kills(db, cursor, connect):
    """By the number that the greeting said.

    Once the server is in SLEEP itself: MariaDB answers a row, and no error, where the KILL came just before it.
    """
    import threading

    number = db.thread_id() if hasattr(db, "thread_id") else db.connection_id
    other = connect()

    def kill():
        killer = other.cursor()
        running = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'"
        while True:
            killer.execute(running)
            if killer.fetchone()[0]:
                break
        killer.execute(f"KILL QUERY {number}")

    thread = threading.Thread(target=kill)
    with quickly():
        thread.start()
        with refused():
            cursor.execute("SELECT SLEEP(30)")
            cursor.fetchall()
        thread.join()
    cursor.execute("SELECT 'survived'")
    say(cursor.fetchone())
    ended = other.cursor()
    ended.execute(f"KILL {number}")
    try:
        cursor.execute("SELECT 'dead'")
    except Exception:  # A broken pipe or an end: what comes first is for the machine to say.
        say("killed")
    other.close()


def refuses_another_user(change):
    """COM_CHANGE_USER: the one thing that is not as against the database itself, so not part of the transcript."""
    if WAY == "plain":
        return
    try:
        change()
    except Exception as error:  # Each driver has a class of its own.
        assert "a session is for one database user" in str(error), error
        return
    raise AssertionError("another user was let in")
