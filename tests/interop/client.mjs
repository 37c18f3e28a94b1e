// A client of a swarm, written from protocols/ alone. `node client.mjs --help`.

import { parseArgs } from 'node:util'
import { Client, NODES_PROTOCOLS, sleep } from './lib/network.mjs'
import { seedFor } from './lib/noise.mjs'
import { Session, additions, difference, likeliest } from './lib/session.mjs'
import { SEALED_MAX, openTokenizer, tokenize } from './lib/tokenizer.mjs'
import { bytes, hex } from './lib/vectors.mjs'

const USAGE = `usage: node client.mjs --address MULTIADDR --swarm NAME [--charter ID] [--prompt TEXT] [--other PEER] [--halts]
Goes through the protocols with the node at MULTIADDR, which ends in /p2p/PEER, and prints a JSON line for each step.
  --charter ID     the swarm's id in hexadecimal: the charter comes from the peer. Without it we are a swarm of one
  --other PEER     another expert, which only the DHT leads to
  --halts          wait for a halt and a resume after the other steps, and check both
  --role ROLE      smaller or larger: how our peer id stands to the node's, which decides who opens the halt stream`
const ALIKE = 0.02 // Total variation of one question's answers: EXPERT-13 leaves rounding, and cells are half a nat wide.
const TOKENS = 8

const { values: options } = parseArgs({
  options: {
    address: { type: 'string' }, swarm: { type: 'string' }, charter: { type: 'string' }, prompt: { type: 'string', default: 'the quick brown fox' },
    other: { type: 'string' }, halts: { type: 'boolean' }, role: { type: 'string', default: 'smaller' }, help: { type: 'boolean' }
  }
})
if (options.help || !options.address || !options.swarm) {
  console.error(USAGE)
  process.exit(options.help ? 0 : 2)
}

function report (record) {
  process.stdout.write(JSON.stringify(record, (key, value) => typeof value === 'bigint' ? Number(value) : value) + '\n')
}

let failed = 0
/** Runs one step; what it returns is told. */
async function step (name, body) {
  const begun = performance.now()
  const took = () => Math.round(performance.now() - begun)
  try {
    const found = await body()
    report({ step: name, ok: true, ms: took(), ...found })
  } catch (error) {
    failed++
    report({ step: name, ok: false, ms: took(), reason: error.stack ?? String(error) })
    throw error
  }
}

function check (holds, otherwise) {
  if (!holds) throw new Error(otherwise)
}


const target = options.address.split('/p2p/')[1]
const charter = options.charter && bytes(options.charter)
const client = new Client(options.swarm, charter, seedFor(options.role, target))
await client.start()
let link, other, record, otherRecord, tokenizer, prompt, session, first

async function identified () {
  link = await client.connect(options.address)
  const { agentVersion, protocols } = await client.libp2p.peerStore.get(link.connection.remotePeer)
    .then(peer => ({ agentVersion: Buffer.from(peer.metadata.get('AgentVersion') ?? '').toString(), protocols: peer.protocols }))
  const dht = `/swarmllm/${options.swarm}/kad/2`
  const missing = [...NODES_PROTOCOLS, dht].filter(protocol => !protocols.includes(protocol))
  check(missing.length === 0, `it does not offer ${missing}; it offers ${protocols}`)
  check(/^swarmllm\//.test(agentVersion), `its agent is ${agentVersion}`)
  return { agent: agentVersion, halt_stream: link.opensStreams ? 'ours' : 'theirs' }
}

async function greeted () {
  check(link.settled, 'the halt states differ')
  check(charter === undefined || client.halt.version > 0, 'no charter has come')
  return { charter_version: client.halt.version, ctl_digest: hex(client.halt.digest), records: client.took.map(one => one.outcome) }
}

/** CAP-6: what the peer says of itself and of others. */
async function shuffled () {
  for (let tries = 0; tries < 20 && !(client.capacity.has(target) && (!options.other || client.capacity.has(options.other))); tries++) {
    const answered = link.until('Shuffled', m => m.type === 'Shuffled')
    link.asking.send({ type: 'Shuffle', swarm: client.swarmTag, ages: [], records: [], want: 4 })
    await answered
    if (!client.capacity.has(options.other ?? target)) await sleep(1100) // CAP-9.
  }
  record = client.capacity.get(target)
  check(record, `no record of ${target}: ${client.badRecords}`)
  check(client.badRecords.length === 0, `records that are none: ${client.badRecords}`)
  check(hex(record.ctl_digest) === hex(client.halt.digest), 'its record has another halt state')
  return { authors: client.capacity.size, model: record.model, additions: [...additions(record.ext).keys()] }
}

async function lookedUp () {
  const wanted = options.other ?? target
  const found = await client.providers(record.vocab_fingerprint)
  check(found.has(wanted), `the DHT lists ${[...found]} under the fingerprint`)
  const written = await client.expertRecord(wanted)
  check(hex(written.vocab_fingerprint) === hex(record.vocab_fingerprint), 'its record has another vocabulary')
  const address = written.addrs.find(one => one.endsWith(`/p2p/${wanted}`))
  check(address, `no address of it in ${written.addrs}`)
  if (options.other) {
    other = await client.connect(address)
    otherRecord = client.capacity.get(wanted) ?? { ...written, ext: new Uint8Array(0) }
  }
  return { providers: found.size, address }
}

async function fetched () {
  const digest = additions(record.ext).get(1)
  check(digest, 'its record has no chat digest')
  const wanted = { fingerprint: record.vocab_fingerprint, chat_digest: digest }
  const sealed = await link.fetch(wanted, SEALED_MAX)
  tokenizer = openTokenizer(sealed, wanted.fingerprint, digest)
  prompt = tokenize(tokenizer, options.prompt)
  return { bytes: sealed.length, kind: tokenizer.kind, vocabulary: tokenizer.tokens.length, prompt: prompt.length }
}

function totals (lists) {
  for (const { logprobs, tail } of lists) {
    const sum = logprobs.reduce((total, value) => total + Math.exp(value), tail)
    check(Math.abs(sum - 1) < 1e-9, `probabilities add up to ${sum}`)
  }
}

/** The likeliest continuation by all experts there are, and one of them asked again in one piece. */
async function answered () {
  const size = tokenizer.tokens.length
  const sessions = [new Session(link, record, size), ...(other ? [new Session(other, otherRecord, size)] : [])]
  const text = [...prompt]
  const seen = []
  for (let behind = prompt; text.length < prompt.length + TOKENS; behind = text.slice(-1)) {
    const replies = await Promise.all(sessions.map(one => one.ask(behind)))
    const lists = replies.map(({ lists: [list] }) => list)
    totals(lists)
    seen.push(lists[0])
    text.push(likeliest(lists, size)[0])
  }
  session = sessions[0]
  const whole = new Session(link, record, size)
  const answer = seen.map((_, i) => prompt.length - 1 + i)
  const targets = answer.slice(0, -1)
  const { lists, reply } = await whole.ask(text.slice(0, -1), { base: 0, answer, targets, entriesMax: 256 })
  const worst = Math.max(...lists.map((list, i) => difference(list, seen[i])))
  check(worst < ALIKE, `in one piece its lists differ by ${worst}`) // EXPERT-13.
  targets.forEach((at, i) => {
    const said = -Buffer.from(reply.target_logprobs).readUInt16BE(2 * i) / 1024
    const place = lists[i].ids.indexOf(text[at + 1])
    if (place >= 0 && said > -20) check(Math.abs(said - lists[i].logprobs[place]) < 0.6, `target ${i}: ${said}, listed ${lists[i].logprobs[place]}`)
  })
  whole.close()
  first = { text, list: seen[0] }
  return { experts: sessions.length, tokens: text.slice(prompt.length), entries: seen[0].ids.length, rounds: session.rounds, worst }
}

/** Rewound, drafted, among a set of tokens, and signed: as far as its record says that it does. */
async function more () {
  const done = ['rewound']
  const again = await session.ask(prompt.slice(1), { base: 1 })
  check(difference(again.lists[0], first.list) < ALIKE, 'rewound it says something else')
  if (session.takes('ScoreDraft')) {
    const { lists } = await session.ask(prompt.slice(1), { base: 1, type: 'ScoreDraft', steps: 2 })
    totals(lists)
    session.context.push(...lists.slice(0, 2).map(list => likeliest([list], tokenizer.tokens.length)[0]))
    done.push('drafted')
  }
  if (session.takes('ScoreAllowed')) {
    const allowed = Buffer.concat([Buffer.of(0), ...first.list.ids.slice(0, 1).map(id => Buffer.from([0, 0, id >> 8, id & 255]))])
    const { lists: [list] } = await session.ask(prompt.slice(1), { base: 1, type: 'ScoreAllowed', allowed: smallest(allowed) })
    check(list.ids.length === 1 && list.tail < 1e-6, 'of one token that is allowed it lists others')
    done.push('allowed')
  }
  if (session.takes('SignSession')) {
    await session.signed()
    done.push('signed')
  }
  session.close()
  return { done }
}

/** EXPERT-15: one id in the shorter form. */
function smallest (form0) {
  const id = form0.readUInt32BE(1)
  const bitmap = Buffer.alloc((id >> 3) + 2)
  bitmap[0] = 1
  bitmap[1 + (id >> 3)] = 1 << (id & 7)
  return form0.length <= bitmap.length ? form0 : bitmap
}

/** An order to halt stops the answers at once, proves itself, and only the resume lifts it. */
async function halted () {
  const open = new Session(link, record, tokenizer.tokens.length)
  await open.ask(prompt)
  const before = client.took.length
  const coming = link.until('Halted', m => m.type === 'Halted', 60_000)
  report({ event: 'waiting', for: 'halt' })
  await coming
  while (!client.halt.halted) await link.until('the order', m => m.type === 'Records')
  const orders = client.took.slice(before)
  check(orders.some(one => one.outcome === 'applied'), `orders: ${orders.map(one => one.outcome)}`)
  await link.whenSettled()
  const reply = await open.ask(prompt)
  check(reply.type === 'Halted', `halted it answered ${reply.type}`)
  return { orders: orders.map(one => one.outcome), ctl_digest: hex(client.halt.digest) }
}

async function resumed () {
  report({ event: 'waiting', for: 'resume' })
  while (client.halt.halted) await link.until('the resume', m => m.type === 'Records', 60_000)
  await link.whenSettled()
  const again = new Session(link, record, tokenizer.tokens.length)
  for (let tries = 0; ; tries++) {
    const reply = await again.ask(prompt)
    if (reply.type === 'Scores') {
      check(difference(reply.lists[0], first.list) < ALIKE, 'after the resume it says something else')
      return { tries, ctl_digest: hex(client.halt.digest) }
    }
    check(tries < 50, `resumed it still answers ${reply.type}`)
    await sleep(100)
    again.open()
  }
}

try {
  await step('identify', identified)
  await step('ping', async () => ({ round_trip_ms: await client.libp2p.services.ping.ping(link.connection.remotePeer) }))
  await step('halt state', greeted)
  await step('capacity', shuffled)
  await step('dht', lookedUp)
  await step('tokenizer', fetched)
  await step('answer', answered)
  await step('more', more)
  if (options.halts) {
    await step('halt', halted)
    await step('resume', resumed)
  }
} catch {
  // Told already.
}
report({ event: 'end', ok: failed === 0, peer: client.peer })
await client.stop()
process.exit(failed === 0 ? 0 : 1)
