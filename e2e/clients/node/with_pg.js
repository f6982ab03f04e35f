// node-postgres: what web services use. Prints what it saw; fails on the first thing that is not as it should be.
'use strict'

const assert = require('node:assert')
const fs = require('node:fs')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { Client, Pool, Query } = require('pg')
const Cursor = require('pg-cursor')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

const way = process.env.TOUCHSTONE_WAY

function settings () {
  const shared = { connectionTimeoutMillis: 20000 }
  if (way !== 'native') return { ...shared, ssl: false }
  const read = (name) => fs.readFileSync(process.env[name])
  return {
    ...shared,
    ssl: { ca: read('PGSSLROOTCERT'), cert: read('PGSSLCERT'), key: read('PGSSLKEY'), rejectUnauthorized: true }
  }
}

function say (...words) {
  console.log(words.map((word) => typeof word === 'string' ? word : JSON.stringify(word)).join(' '))
}

async function refused (promise) {
  const error = await promise.then(() => assert.fail('nothing was refused'), (error) => error)
  say('refused:', error.code, error.severity, error.message)
}

async function connect () {
  const client = new Client(settings())
  await client.connect()
  return client
}

async function main () {
  const db = await connect()
  const rows = async (...query) => (await db.query(...query)).rows
  say('who', await rows('SELECT current_user, current_database()'))
  say('types', await rows('SELECT $1::int AS i, $2::text AS t, $3::bytea AS b, $4::jsonb AS j, NULL AS n',
    [1, 'zwölf', Buffer.from([0, 255]), { a: [1] }]))
  await refused(db.query('SELECT nonsense'))
  await refused(db.query('SELECT 1 / $1::int', [0]))
  const several = await db.query('SELECT 1 AS a; SELECT 2 AS b; CREATE TEMP TABLE t (i int, t text)')
  say('several', several.map((result) => [result.command, result.rows]))

  // Queued by the client, so that none waits for the one before it.
  const many = await Promise.all(Array.from({ length: 300 }, (_, i) => rows({ name: 'double', text: 'SELECT $1::int * 2 AS x', values: [i] })))
  say('many', many.reduce((sum, [row]) => sum + row.x, 0))

  const notices = []
  db.on('notice', (notice) => notices.push(notice.message))
  await db.query("DO $$ BEGIN FOR i IN 1..5 LOOP RAISE NOTICE 'n%', i; END LOOP; END $$")
  say('notices', notices)

  const lines = Array.from({ length: 5000 }, (_, i) => `${i}\tline ${i}\n`)
  const into = db.query(copyFrom('COPY t FROM STDIN'))
  await pipeline(Readable.from(lines), into)
  say('copied in', into.rowCount)
  let bytes = 0
  for await (const chunk of db.query(copyTo('COPY t TO STDOUT'))) bytes += chunk.length
  say('copied out', bytes)
  await refused(pipeline(Readable.from(['one\ttwo\n']), db.query(copyFrom('COPY t FROM STDIN'))))

  const cursor = db.query(new Cursor('SELECT i FROM generate_series(1, $1::int) AS i', [1000]))
  const first = await cursor.read(3)
  const next = await cursor.read(500)
  await cursor.close()
  say('cursor', first, next.length)

  await db.query('BEGIN')
  await refused(db.query('INSERT INTO t VALUES ($1)', ['no number']))
  await refused(db.query('SELECT 1'))
  await db.query('ROLLBACK')

  const other = await connect()
  const asleep = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(30)'"
  for (const cancel of [
    (_query) => other.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'"),
    (query) => new Client(settings()).cancel(db, query)
  ]) {
    let ended
    const query = new Query('SELECT pg_sleep(30)', (error) => ended(error))
    const end = new Promise((resolve) => { ended = resolve })
    db.query(query)
    while (!(await other.query(asleep)).rowCount);
    const began = Date.now()
    cancel(query)
    const error = await end
    say('cancelled', error.code, error.message)
    assert(Date.now() - began < 5000, 'cancelling took too long')
  }

  const heard = new Promise((resolve) => db.once('notification', resolve))
  await db.query('LISTEN news')
  await other.query("NOTIFY news, 'it is raining'")
  const { channel, payload } = await heard
  say('heard', channel, payload)
  await other.end()

  const large = Buffer.alloc(10_000_000, 'abcdefghij')
  const [{ b }] = await rows('SELECT $1::bytea AS b', [large])
  assert(b.equals(large))
  await db.end()

  const pool = new Pool({ ...settings(), max: 5 })
  const sums = await Promise.all(Array.from({ length: 100 }, (_, i) => pool.query('SELECT $1::int AS x', [i])))
  say('pooled', sums.reduce((sum, { rows: [row] }) => sum + row.x, 0))
  await pool.end()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
