// A steady client, one that comes and goes, and the noise of a buggy one, all at once. `node soak.mjs --help`.

import { parseArgs } from 'node:util'
import { Client, sleep } from './lib/network.mjs'
import { noise, seedFor } from './lib/noise.mjs'
import { Session, difference } from './lib/session.mjs'
import { bytes } from './lib/vectors.mjs'

const USAGE = `usage: node soak.mjs --address MULTIADDR --swarm NAME [--charter ID] [--seconds N]
For so many seconds (300) one client asks on one connection, another one leaves and comes back in every way there is, and others
break each rule that a buggy client may break. Prints one JSON line; fails if the steady one was harmed, or the noise saw another end
than the documents say.`
const ALIKE = 0.02 // As in client.mjs.
const PAUSE_MS = 50
const TOKENS = [5, 6, 7, 8]
const ENTRIES = 64
const VOCABULARY_MAX = 2 ** 20

const { values: options } = parseArgs({
  options: {
    address: { type: 'string' }, swarm: { type: 'string' }, charter: { type: 'string' }, seconds: { type: 'string', default: '300' },
    help: { type: 'boolean' }
  }
})
if (options.help || !options.address || !options.swarm || !(Number(options.seconds) > 0)) {
  console.error(USAGE)
  process.exit(options.help ? 0 : 2)
}

const { address, swarm } = options
const target = address.split('/p2p/')[1]
const charter = options.charter && bytes(options.charter)
const until = Date.now() + 1000 * Number(options.seconds)
const faults = []

/** The peer's record: from a Shuffle, of ours or its own. */
async function recordOf (client, link) {
  for (let tries = 0; !client.capacity.has(target); tries++) {
    if (tries === 10) throw new Error('no capacity record')
    link.asking.send({ type: 'Shuffle', swarm: client.swarmTag, ages: [], records: [], want: 1 })
    await sleep(tries === 0 ? 50 : 1100)
  }
  return client.capacity.get(target)
}

async function list (link, record) {
  const session = new Session(link, record, VOCABULARY_MAX)
  const { lists } = await session.ask(TOKENS, { base: 0, entriesMax: ENTRIES })
  session.close()
  return lists[0]
}

const steady = await new Client(swarm, charter, seedFor('larger', target)).start()
const steadyLink = await steady.connect(address)
const record = await recordOf(steady, steadyLink)
const first = await list(steadyLink, record)

async function goesOn () {
  let [answers, worst] = [0, 0]
  while (Date.now() < until) {
    const begun = performance.now()
    const found = await list(steadyLink, record)
    worst = Math.max(worst, performance.now() - begun)
    if (difference(found, first) > ALIKE) faults.push('the steady client got another answer')
    answers++
    await sleep(PAUSE_MS)
  }
  if (steadyLink.ended) faults.push(`the steady client lost its connection: ${steadyLink.ended}`)
  return { answers, worst_ms: Math.round(worst) }
}

const ways = {
  goodbye: link => link.leave(),
  reset: async link => link.abort(),
  'in the middle of a question': async link => {
    const session = new Session(link, record, VOCABULARY_MAX)
    session.ask(TOKENS, { base: 0 }).catch(() => {})
    link.abort()
  },
  'end of the asking stream': async link => {
    link.asking.close() // STREAM-4: the connection stays, and another stream may be opened.
    await sleep(20)
    await link.leave()
  }
}

async function comesBack (role) {
  const client = await new Client(swarm, charter, seedFor(role, target)).start()
  let [times, worst] = [0, 0]
  while (Date.now() < until) {
    const begun = performance.now()
    const link = await client.connect(address)
    if (difference(await list(link, record), first) > ALIKE) faults.push('who came back got another answer')
    worst = Math.max(worst, performance.now() - begun)
    const [, leave] = Object.entries(ways)[times++ % Object.keys(ways).length]
    await leave(link)
    await sleep(PAUSE_MS)
  }
  await client.stop()
  return { times, worst_ms: Math.round(worst) }
}

async function makesNoise () {
  let rounds = 0
  for (; rounds === 0 || Date.now() < until; rounds++) {
    const { otherwise } = await noise(swarm, charter, address)
    for (const [name, why] of Object.entries(otherwise)) faults.push(`${name}: ${why}`)
  }
  return { rounds }
}

const [went, smaller, larger, noisy] = await Promise.all([goesOn(), comesBack('smaller'), comesBack('larger'), makesNoise()].map(one =>
  one.catch(error => void faults.push(error.stack))))
console.log(JSON.stringify({ ok: faults.length === 0, steady: went, came_back: { smaller, larger }, noise: noisy, faults: [...new Set(faults)] }))
await steady.stop()
process.exit(faults.length === 0 ? 0 : 1)
