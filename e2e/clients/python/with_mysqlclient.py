"""mysqlclient: MariaDB's C library, as Django uses it."""

import MySQLdb
from MySQLdb.constants import CLIENT
from MySQLdb.cursors import SSCursor

from mysql_play import AUTHORITIES, CERTIFICATE, DATABASE, HOST, KEY, MIB, PORT, SOCKET, USER, play, several
from transcript import refused, say


def connect(**more):
    # `localhost` is a socket to this library, whatever the port says.
    where = {"unix_socket": SOCKET} if SOCKET else {"host": HOST.replace("localhost", "127.0.0.1"), "port": PORT}
    tls = {"ssl": {"ca": AUTHORITIES, "cert": CERTIFICATE, "key": KEY}} if CERTIFICATE else {}
    return MySQLdb.connect(
        user=USER, database=DATABASE, charset="utf8mb4", local_infile=1, **where, **tls, **more
    )


def main():
    play(connect)
    play(lambda: connect(compress=True), size=3 * MIB)
    db = connect(client_flag=CLIENT.MULTI_STATEMENTS)
    cursor = db.cursor()
    several(db, cursor, cursor.nextset)
    db.ping()
    say("statistics", db.stat().split()[0])
    cursor = db.cursor(SSCursor)
    cursor.execute("SELECT seq FROM seq_1_to_100000")
    say("unbuffered", cursor.fetchone(), len(cursor.fetchall()))
    cursor.close()
    db.select_db("information_schema")
    with refused(MySQLdb.OperationalError):
        db.select_db("nowhere")
    db.close()


main()
