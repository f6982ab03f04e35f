"""Connects with nothing but the name of a service in libpq's service file."""

import os

import psycopg
import psycopg2

WHO = "SELECT current_user || '@' || current_database()"
WORDS = f"service={os.environ['PGSERVICE']}"

with psycopg.connect(WORDS) as db:
    print("psycopg", db.execute(WHO).fetchone()[0])
db = psycopg2.connect(WORDS)
cursor = db.cursor()
cursor.execute(WHO)
print("psycopg2", cursor.fetchone()[0])
db.close()
