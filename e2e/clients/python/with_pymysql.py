"""PyMySQL: the protocol in pure Python."""

import pymysql
from pymysql.constants import CLIENT

from mysql_play import AUTHORITIES, CERTIFICATE, DATABASE, HOST, KEY, PORT, SOCKET, USER, play, several
from transcript import refused, say


def connect(**more):
    where = {"unix_socket": SOCKET} if SOCKET else {"host": HOST, "port": PORT}
    tls = {"ssl_ca": AUTHORITIES, "ssl_cert": CERTIFICATE, "ssl_key": KEY, "ssl_verify_identity": True}
    return pymysql.connect(
        user=USER,
        database=DATABASE,
        local_infile=True,
        max_allowed_packet=64 * 1024 * 1024,
        ssl_disabled=not CERTIFICATE,
        **where,
        **(tls if CERTIFICATE else {}),
        **more,
    )


def main():
    play(connect, edges=True)
    db = connect(client_flag=CLIENT.MULTI_STATEMENTS)
    cursor = db.cursor()
    several(db, cursor, cursor.nextset)
    db.ping(reconnect=False)
    say("told", cursor.mogrify("SELECT %s", ("it's",)))
    # Rows one at a time, and the rest of them thrown away.
    with db.cursor(pymysql.cursors.SSCursor) as rows:
        rows.execute("SELECT seq FROM seq_1_to_100000")
        say("unbuffered", rows.fetchone(), rows.fetchmany(2))
    db.select_db("information_schema")
    with refused(pymysql.err.OperationalError):
        db.select_db("nowhere")
    for plugin in ("a password that nobody looks at", ""):
        with connect(password=plugin) if not SOCKET else connect() as another:
            say("another", another.cursor().execute("SELECT 1"))


main()
