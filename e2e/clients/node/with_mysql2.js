// mysql2: what web services use. Prints what it saw; fails on the first thing that is not as it should be.
'use strict'

const assert = require('node:assert')
const fs = require('node:fs')
const mysql = require('mysql2/promise')
const { FILE, MIB, connection, dialogue, refused, say, secured } = require('./mysql_play')

function settings (more) {
  return { ...connection(), ssl: secured(), multipleStatements: true, infileStreamFactory: fs.createReadStream, charset: 'utf8mb4', ...more }
}

async function main () {
  for (const compress of [false, true]) {
    // The driver writes packets that come out of order to the console, and goes on: here that is the end. Compressed, it
    // does not understand how MySQL itself numbers them.
    console.error = (...words) => { if (!compress) throw new Error(words.join(' ')) }
    const db = await mysql.createConnection(settings({ compress }))
    await dialogue({
      size: compress ? 3 * MIB : 20 * MIB,
      rows: async (text, values) => (await db.query(text, values))[0],
      prepared: async (text, values) => (await db.execute(text, values))[0],
      load: async () => (await db.query(`LOAD DATA LOCAL INFILE '${FILE}' INTO TABLE loaded`))[0].affectedRows
    })
    const several = await db.query('SELECT 1 AS a; SELECT 2 AS b; DO 1; CALL three_results(7)')
    say('several', several[0])
    await refused(db.query({ sql: 'SELECT 1; SELECT nonsense; SELECT 2' }))
    let streamed = 0
    for await (const row of db.connection.query('SELECT seq FROM seq_1_to_50000').stream()) streamed += row.seq
    say('streamed', streamed)
    if (process.env.TOUCHSTONE_WAY !== 'plain') {
      await assert.rejects(db.changeUser({ user: 'olga' }), /a session is for one database user/)
      const [[{ here }]] = await db.query("SELECT 'the same session' AS here")
      assert.strictEqual(here, 'the same session')
    }
    await kills(db)
    await db.end()
  }
  const pool = mysql.createPool({ ...settings(), connectionLimit: 5 })
  const sums = await Promise.all(Array.from({ length: 100 }, (_, i) => pool.execute('SELECT ? + 0 AS x', [i])))
  say('pooled', sums.reduce((sum, [[row]]) => sum + Number(row.x), 0))
  await pool.end()
}

async function kills (db) {
  const other = await mysql.createConnection(settings())
  const slow = refused(db.query('SELECT SLEEP(30)'))
  const running = "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE state = 'User sleep'"
  while (!(await other.query(running))[0][0].n);
  await other.query(`KILL QUERY ${db.threadId}`)
  await slow
  await other.end()
}

main().catch((error) => {
  fs.writeSync(2, `${error.stack}\n`)
  process.exit(1)
})
