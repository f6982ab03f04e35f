// What both drivers of MySQL are asked to do, and how they are told where the database is.
'use strict'

const assert = require('node:assert')
const fs = require('node:fs')

const environment = process.env
const MIB = 1024 * 1024
const FILE = environment.TOUCHSTONE_FILE

function connection () {
  const shared = { user: environment.MYSQL_USER, database: environment.MYSQL_DATABASE, connectTimeout: 20000 }
  if (environment.MYSQL_SOCKET) return { ...shared, socketPath: environment.MYSQL_SOCKET }
  return { ...shared, host: environment.MYSQL_HOST, port: Number(environment.MYSQL_PORT) }
}

function secured () {
  if (!environment.MYSQL_SSL_CERT) return undefined
  const read = (name) => fs.readFileSync(environment[name])
  return { ca: read('MYSQL_SSL_CA'), cert: read('MYSQL_SSL_CERT'), key: read('MYSQL_SSL_KEY'), rejectUnauthorized: true }
}

function say (...words) {
  const written = (_, value) => typeof value === 'bigint' ? `${value}n` : value
  console.log(words.map((word) => typeof word === 'string' ? word : JSON.stringify(word, written)).join(' '))
}

async function refused (promise) {
  const error = await promise.then(() => assert.fail('nothing was refused'), (error) => error)
  say('refused:', String(error.errno), String(error.sqlState), String(error.sqlMessage))
}

// `rows` asks in text, `prepared` in binary, `load` loads the file; `size` is the large row's.
async function dialogue ({ rows, prepared, load, size }) {
  say('server', await rows('SELECT VERSION() AS v, DATABASE() AS d'))
  say('values', await rows('SELECT ? AS i, ? AS t, ? AS b, NULL AS n', [1, 'zw\u00f6lf', Buffer.from([0, 255])]))
  say('prepared', await prepared('SELECT ? AS i, ? AS t, ? AS n', [1, 'zw\u00f6lf', null]))
  for (const text of ['SELECT nonsense', 'SELEC 1', 'KILL 4294967290', 'USE nowhere']) await refused(rows(text))
  await refused(prepared('SELECT ? +', [1]))
  const same = []
  for (let i = 0; i < 20; i++) same.push(Number((await prepared('SELECT ? * 2 AS x', [i]))[0].x))
  say('again', same)

  await rows('CREATE TEMPORARY TABLE loaded (i INT, t TEXT)')
  say('loaded', Number(await load()), await rows('SELECT COUNT(*) AS n, MD5(GROUP_CONCAT(t ORDER BY i)) AS t FROM loaded'))

  const [{ large }] = await rows(`SELECT REPEAT('x', ${size}) AS large`)
  say('large row', large.length)
  say('large statement', await rows('SELECT LENGTH(?) AS l, MD5(?) AS m', ['y'.repeat(size * 9 / 20), 'z'.repeat(size * 8 / 20)]))
  await rows('DROP TEMPORARY TABLE loaded')
}

module.exports = { FILE, MIB, connection, dialogue, refused, say, secured }
