// MariaDB's own connector: pipelines, bulk, and named parameters.
'use strict'

const fs = require('node:fs')
const mariadb = require('mariadb')
const { FILE, MIB, connection, dialogue, refused, say, secured } = require('./mysql_play')

function settings (more) {
  return { ...connection(), ssl: secured(), multipleStatements: true, permitLocalInfile: true, ...more }
}

async function main () {
  for (const compress of [false, true]) {
    const db = await mariadb.createConnection(settings({ compress }))
    await dialogue({
      size: compress ? 3 * MIB : 20 * MIB,
      rows: (text, values) => db.query(text, values),
      prepared: (text, values) => db.execute(text, values),
      load: async () => (await db.query(`LOAD DATA LOCAL INFILE '${FILE}' INTO TABLE loaded`)).affectedRows
    })
    say('several', await db.query('SELECT 1 AS a; SELECT 2 AS b; CALL three_results(7)'))

    // Sent before the ones in front of them are answered.
    const many = await Promise.all(Array.from({ length: 300 }, (_, i) => db.query('SELECT ? + 0 AS x', [i])))
    say('in flight', many.reduce((sum, [row]) => sum + Number(row.x), 0))
    const mixed = await Promise.allSettled(['SELECT 1 AS a', 'SELECT nonsense', 'SELECT 2 AS a'].map((text) => db.query(text)))
    say('mixed', mixed.map((one) => one.status === 'fulfilled' ? one.value : one.reason.errno))

    // COM_STMT_BULK_EXECUTE.
    await db.query('CREATE TEMPORARY TABLE bulky (i INT, t TEXT)')
    const bulk = await db.batch('INSERT INTO bulky VALUES (?, ?)', Array.from({ length: 1000 }, (_, i) => [i, i % 3 ? `line ${i}` : null]))
    say('bulk', bulk.affectedRows, await db.query('SELECT COUNT(*) AS n, COUNT(t) AS t, SUM(i) AS i FROM bulky'))

    await db.query('SET @left = 1')
    await db.reset()
    say('reset', await db.query('SELECT @left AS v'))
    await kills(db)
    await db.end()
  }
}

async function kills (db) {
  const other = await mariadb.createConnection(settings())
  const slow = refused(db.query('SELECT SLEEP(30)'))
  const running = "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE state = 'User sleep'"
  while (!Number((await other.query(running))[0].n));
  await other.query(`KILL QUERY ${db.threadId}`)
  await slow
  await other.end()
}

main().catch((error) => {
  fs.writeSync(2, `${error.stack}\n`)
  process.exit(1)
})
