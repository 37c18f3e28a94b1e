// What a buggy client does, and what it should see of it (streams.md, strikes.md). Each case has a key of its own, for strikes last.

import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { encode, frame } from './codec.mjs'
import { Client, EXPERT, HALT, Lane, TOKENIZER, sleep, within } from './network.mjs'
import { bytes, vectors } from './vectors.mjs'

const SEEN_MS = 10_000 // Half a frame is given up after 5 s.
const SOCKETS = 40

/** A key whose peer id stands to another as asked: who has the smaller one opens the halt stream. */
export function seedFor (role, other) {
  for (;;) {
    const seed = randomBytes(32)
    if ((new Client('', undefined, seed).peer < other) === (role === 'smaller')) return seed
  }
}

function check (holds, otherwise) {
  if (!holds) throw new Error(otherwise)
}

/** The Goodbye that the node says, and that the connection then ends. */
async function goodbye (link, code) {
  const said = await link.until(`Goodbye ${code}`, m => m.type === 'Goodbye', SEEN_MS)
  check(said.code === code, `Goodbye ${said.code} instead of ${code}`)
  await ended(link)
}

async function ended (link) {
  for (let waited = 0; link.connection.status === 'open'; waited += 10) {
    check(waited < SEEN_MS, 'the connection stays open')
    await sleep(10)
  }
}

/** The connection still answers. */
async function stays (link) {
  const nonce = ++link.nonce
  const pong = link.until('a Pong', m => m.type === 'Pong' && m.nonce === nonce, SEEN_MS)
  link.asking.send({ type: 'Ping', nonce })
  await pong
}

/** Junk on a stream of a library's protocol costs that stream alone. */
async function junk (link, protocol, data) {
  const stream = await link.connection.newStream(protocol)
  const over = (async () => { for await (const _ of stream.source) { /* Whatever it says. */ } })().catch(() => {})
  await stream.sink([data]).catch(() => {})
  await within(SEEN_MS, `the end of a stream of ${protocol}`, Promise.race([over, sleep(300)]))
  stream.abort(new Error('enough'))
  await stays(link)
}

/** A TCP connection that is no libp2p. */
function socket (address, body) {
  const { host, port } = multiaddr(address).toOptions()
  return new Promise(resolve => {
    const raw = connect(port, host)
    raw.once('error', resolve).once('close', resolve).resume()
    raw.once('connect', () => body(raw))
  })
}

function score (link, round, more = {}) {
  return {
    type: 'Score', session: 1, round, epoch: 0, base: 0, context_hash: new Uint8Array(8), tokens: [1, 2, 3], answer: [2], targets: [], entries_max: 8,
    tail_max: 0, ctl_digest: link.client.halt.digest, ...more
  }
}

const breaches = Object.fromEntries(vectors('dialogues').breaches.filter(({ sees }) => sees.goodbye).map(({ name, hex, sees }) => [name, async ({ link }) => {
  clearInterval(link.pinging)
  link.asking.write(bytes(hex))
  await goodbye(link, sees.goodbye)
}]))

const cases = {
  ...breaches,
  'a frame cut off by the end of the connection': async ({ link }) => {
    link.asking.write(frame(encode(score(link, 1))).subarray(0, 20))
    await sleep(50)
    link.abort()
  },
  'a length of 4 GiB': async ({ link }) => {
    link.asking.write(bytes('ffffffff00'))
    await goodbye(link, 2)
  },
  'answers that nobody waits for': async ({ link }) => {
    link.asking.write(frame(bytes('922107')))
    await stays(link)
  },
  'a flood of pings': async ({ link }) => {
    for (let i = 0; i < 3000; i++) link.asking.send({ type: 'Ping', nonce: i })
    await Promise.race([stays(link), ended(link)])
  },
  'questions without a session': async ({ link }) => {
    for (let i = 0; i < 200; i++) link.asking.send(score(link, i))
    const replies = await link.until('the last reply', m => m.round === 199, SEEN_MS)
    check(['Refused', 'Busy'].includes(replies.type), `a ${replies.type} without a session`)
    await stays(link)
  },
  'sessions without end': async ({ link }) => {
    const { type, ...open } = { type: 'Open', model_digest: new Uint8Array(32), vocab_fingerprint: new Uint8Array(32), ctl_digest: link.client.halt.digest }
    for (let i = 0; i < 500; i++) link.asking.send({ type, session: i, ...open })
    await stays(link)
  },
  'records that are none': async ({ link }) => {
    const records = Array.from({ length: 8 }, () => new Uint8Array(randomBytes(300)))
    for (let i = 0; i < 4; i++) link.asking.send({ type: 'Shuffle', swarm: link.client.swarmTag, ages: records.map(() => 0), records, want: 0 })
    await stays(link)
  },
  'asking streams without end': async ({ link }) => {
    const more = await Promise.allSettled(Array.from({ length: 20 }, () => link.connection.newStream(EXPERT)))
    for (const { value } of more) value?.abort(new Error('enough'))
    check(link.connection.status === 'open', 'the connection has ended')
  },
  'junk on the halt stream': async ({ link }) => {
    link.control.write(frame(bytes('c1c1c1')))
    await sleep(100)
    await stays(link)
  },
  'a halt stream by the wrong side': async ({ link }) => {
    const lane = new Lane(await link.connection.newStream(HALT), HALT, () => {}, () => {})
    lane.send(link.client.halt.greeting)
    await sleep(100)
    await stays(link)
  },
  'junk on the stream for tokenizers': async ({ link }) => {
    link.tokens.write(frame(bytes('c1c1c1')))
    await sleep(100)
    await stays(link)
  },
  'junk where libraries listen': async ({ link }) => {
    for (const protocol of ['/ipfs/ping/1.0.0', '/ipfs/id/1.0.0', '/ipfs/id/push/1.0.0', '/meshsub/1.1.0', `/swarmllm/${link.client.swarmName}/kad/2`]) {
      await junk(link, protocol, new Uint8Array(randomBytes(2000)))
    }
  },
  'protocols that do not exist': async ({ link }) => {
    await Promise.allSettled(Array.from({ length: 40 }, (_, i) => link.connection.newStream(`/nothing/${i}`)))
    check(link.connection.status === 'open', 'the connection has ended')
    await stays(link)
  },
  'junk before the handshake': async ({ address }) => {
    await Promise.all(Array.from({ length: SOCKETS }, (_, i) => socket(address, raw => {
      if (i % 4 === 0) return raw.destroy()
      if (i % 4 === 1) return raw.end(randomBytes(1000))
      raw.write(i % 4 === 2 ? '\x13/multistream/1.0.0\n\x07/noise\n' : Buffer.alloc(70_000, 255))
      setTimeout(() => raw.destroy(), 500)
    })))
  },
  'three strikes': async ({ link, address }) => {
    const { client } = link
    for (const [strike, code] of [[1, 2], [2, 2], [3, 3]]) {
      const again = strike === 1 ? link : await client.connect(address)
      again.asking.write(frame(bytes('c1c1c1')))
      const said = await again.until('Goodbye', m => m.type === 'Goodbye', SEEN_MS)
      check([2, code].includes(said.code), `Goodbye ${said.code} at strike ${strike}`)
      await ended(again)
    }
    const refused = await client.connect(address).then(() => undefined, error => error)
    check(refused !== undefined, 'after three strikes it is served')
  }
}

const LARGER = new Set(['a halt stream by the wrong side'])
const TOGETHER = 4

/** Runs each case once; returns what went otherwise than it should, by name. */
export async function noise (swarm, charter, address) {
  const found = {}
  const target = address.split('/p2p/')[1]
  const names = Object.keys(cases)
  await Promise.all(Array.from({ length: TOGETHER }, async () => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const client = await new Client(swarm, charter, seedFor(LARGER.has(name) ? 'larger' : 'smaller', target)).start()
      try {
        await cases[name]({ link: await client.connect(address), address })
      } catch (error) {
        found[name] = error.message
      } finally {
        await client.stop()
      }
    }
  }))
  return { cases: Object.keys(cases).length, otherwise: found }
}
