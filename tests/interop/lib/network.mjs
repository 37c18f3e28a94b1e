// Connections and streams (streams.md) over js-libp2p.

import './node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { randomBytes } from 'node:crypto'
import { Breach, Frames, decode, encode, frame } from './codec.mjs'
import { HaltState } from './halt.mjs'
import { blake8, openEnvelope, peerOf, publicKeyOf } from './signed.mjs'
import { hex } from './vectors.mjs'

export const EXPERT = '/swarmllm/expert/2'
export const HALT = '/swarmllm/halt/2'
export const TOKENIZER = '/swarmllm/tokenizer/1'
export const NODES_PROTOCOLS = ['/ipfs/id/1.0.0', '/ipfs/id/push/1.0.0', '/ipfs/ping/1.0.0', '/meshsub/1.1.0', EXPERT, HALT, TOKENIZER]
const FRAMES_MAX = { [EXPERT]: 262_144, [HALT]: 16_384, [TOKENIZER]: 32_896 }
const FROM_OPENER = ['Open', 'Score', 'ScoreAllowed', 'ScoreDraft', 'Close', 'SignSession', 'Shuffle', 'Ping', 'Pong', 'Halted', 'Goodbye']
const FROM_ANSWERER = ['Scores', 'Need', 'Busy', 'Refused', 'SessionSigned', 'Shuffled', 'Ping', 'Pong', 'Halted']
const CONTROL = ['HaltDigest', 'Vectors', 'Records', 'Ack']
const TOKENS = ['TokenizerWanted', 'TokenizerPart', 'TokenizerBusy']
const ANSWERS = new Set(['Scores', 'Need', 'Busy', 'Refused'])
const PING_MS = 2000
const ASK_AGAIN_MS = 1000
const ANSWER_MS = 20_000
const PART_BYTES = 32_768
const RECORD_MAX = 576 // CAP-2.
const VALUE_MAX = 2048 // CAP-14.

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

/** The promise, or an error that names what did not come. */
export async function within (ms, what, promise) {
  let timer
  const late = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Error(`${what} did not come within ${ms} ms`)), ms) })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** One stream as frames, both ways. */
export class Lane {
  #queue = []
  #wake = () => {}
  #closing = false

  constructor (stream, protocol, onFrame, onEnd) {
    this.stream = stream
    this.ended = false
    this.#run(protocol, onFrame).catch(error => error).then(error => {
      this.ended = true
      stream.abort(error ?? new Error('the stream has ended'))
      onEnd(error)
    })
    stream.sink(this.#written()).catch(() => {}) // The reading half hears of it, too.
  }

  /** Bytes as they are; `send` makes a frame of a message. */
  write (bytes) {
    this.#queue.push(bytes)
    this.#wake()
  }

  send (message) {
    this.write(frame(encode(message)))
  }

  close () {
    this.#closing = true
    this.#wake()
  }

  async * #written () {
    while (!this.ended) {
      while (this.#queue.length > 0) yield this.#queue.shift()
      if (this.#closing) return
      await new Promise(resolve => { this.#wake = resolve })
    }
  }

  async #run (protocol, onFrame) {
    const frames = new Frames(FRAMES_MAX[protocol])
    for await (const chunk of this.stream.source) {
      for (const bytes of frames.feed(chunk.subarray())) onFrame(bytes)
    }
  }
}

/** What a client has with one peer: the connection, and at most one stream each way of each kind. */
export class Link {
  constructor (client, connection) {
    this.client = client
    this.connection = connection
    this.peer = connection.remotePeer.toString()
    this.opensStreams = client.peer < this.peer // ID-2.
    this.waiting = new Map()
    this.seen = [] // Messages that nobody asked for, for whoever looks.
    this.watchers = new Set()
    this.theirDigest = undefined
    this.round = 0
    this.nonce = 0
    this.pinging = setInterval(() => this.asking && !this.asking.ended && this.asking.send({ type: 'Ping', nonce: ++this.nonce }), PING_MS)
    connection.addEventListener?.('close', () => this.#over('the connection has ended'))
  }

  get settled () {
    return this.theirDigest !== undefined && hex(this.theirDigest) === hex(this.client.halt.digest)
  }

  /** Our asking stream, and the first Pong on it. */
  async begin () {
    const stream = await this.connection.newStream(EXPERT)
    this.asking = new Lane(stream, EXPERT, bytes => this.#answered(decode(bytes, FROM_ANSWERER)), () => this.#over('the asking stream has ended'))
    this.asking.send({ type: 'Ping', nonce: ++this.nonce })
    await this.until('a Pong on the asking stream', m => m.type === 'Pong')
    if (!this.opensStreams) return
    this.takeHalt(await this.connection.newStream(HALT))
    this.takeTokens(await this.connection.newStream(TOKENIZER))
  }

  takeHalt (stream) {
    this.control = new Lane(stream, HALT, bytes => this.#controlled(decode(bytes, CONTROL)), () => {})
    this.control.send(this.client.halt.greeting)
  }

  /** STREAM-3: the peer asks on this one. */
  takeAsked (stream) {
    const lane = new Lane(stream, EXPERT, bytes => {
      const message = decode(bytes, FROM_OPENER)
      this.#note(message)
      if (message.type === 'Ping') lane.send({ type: 'Pong', nonce: message.nonce })
      else if (message.type === 'Shuffle') this.#shuffled(lane, message)
      else if (message.type.startsWith('Score')) lane.send({ type: 'Refused', session: message.session, round: message.round, code: 5 })
    }, () => {})
  }

  /** CAP-9: we have no record, and give none. */
  #shuffled (lane, { records, want }) {
    for (const sealed of records) this.client.learn(sealed)
    if (want > 0) lane.send({ type: 'Shuffled', ages: [], records: [] })
  }

  #answered (message) {
    if (message.ctl_digest !== undefined) this.theirDigest = message.ctl_digest // HALT-18.
    this.#note(message)
    if (message.type === 'Halted') {
      for (const resolve of this.waiting.values()) resolve(message)
      this.waiting.clear()
    } else if (ANSWERS.has(message.type)) {
      const key = `${message.session}/${message.round}`
      this.waiting.get(key)?.(message)
      this.waiting.delete(key)
    } else if (message.type === 'Shuffled') {
      for (const sealed of message.records) this.client.learn(sealed)
    }
  }

  /** HALT-19, HALT-20. */
  #controlled (message) {
    const state = this.client.halt
    switch (message.type) {
      case 'HaltDigest':
        this.theirDigest = message.ctl_digest
        if (hex(message.swarm) === hex(state.swarm) && !this.settled) this.control.send(state.vectors)
        break
      case 'Vectors': {
        if (hex(encode(message)) === hex(encode(state.vectors))) this.theirDigest = state.digest
        const missing = this.#lackedBy(message)
        if (missing.length > 0) this.control.send({ type: 'Records', records: missing })
        if (this.#has(message)) this.control.send(state.vectors)
        else if (missing.length === 0) this.control.send({ type: 'Ack', ctl_digest: state.digest })
        break
      }
      case 'Records':
        this.client.took.push(...message.records.map(record => ({ record, outcome: state.take(record) })))
        this.control.send({ type: 'Ack', ctl_digest: state.digest })
        if (!this.settled) this.control.send(state.vectors) // Records say nothing of their sender's digest; the Ack to these does.
        break
      case 'Ack':
        this.theirDigest = message.ctl_digest
    }
    this.#note(message)
  }

  /** Whether they have something that we lack. */
  #has ({ charter_version: version, halts, lifts }) {
    const ours = this.client.halt.vectors
    const newer = (theirs, known) => {
      const found = new Map(known.map(mark => [hex(mark.subarray(0, 16)), hex(mark)]))
      return theirs.some(mark => hex(mark) > (found.get(hex(mark.subarray(0, 16))) ?? ''))
    }
    return version > ours.charter_version || newer(halts, ours.halts) || newer(lifts, ours.lifts)
  }

  #lackedBy ({ charter_version: version, halts, lifts }) {
    const theirs = new Set([...halts, ...lifts].map(hex))
    const ours = this.client.halt.vectors
    const lacks = version < ours.charter_version || [...ours.halts, ...ours.lifts].some(mark => !theirs.has(hex(mark)))
    return lacks ? this.client.halt.records.slice(0, 16) : []
  }

  #note (message) {
    if (this.seen.length < 10_000) this.seen.push(message)
    for (const watcher of [...this.watchers]) watcher(message)
  }

  #over (why) {
    clearInterval(this.pinging)
    this.client.links.delete(this.connection.id)
    this.ended = why
    for (const resolve of this.waiting.values()) resolve({ type: 'Lost', why })
    this.waiting.clear()
    this.#note({ type: 'Lost', why })
  }

  /** The next message for which this holds; an error if the connection ends before. */
  until (what, holds, ms = ANSWER_MS) {
    return within(ms, what, new Promise((resolve, reject) => {
      if (this.ended) reject(new Error(`${what}: ${this.ended}`))
      const watcher = message => {
        if (holds(message)) resolve(message)
        else if (message.type === 'Lost') reject(new Error(`${what}: ${message.why}`))
        else return
        this.watchers.delete(watcher)
      }
      this.watchers.add(watcher)
    }))
  }

  async whenSettled () {
    const begun = Date.now()
    let asked = begun
    while (!this.settled) {
      if (this.ended) throw new Error(this.ended)
      if (this.control && Date.now() - asked > ASK_AGAIN_MS) { // HALT-20.
        this.control.send(this.client.halt.vectors)
        asked = Date.now()
      }
      if (Date.now() - begun > ANSWER_MS) {
        throw new Error(`the halt states did not agree: ours ${hex(this.client.halt.digest)}, theirs ${this.theirDigest && hex(this.theirDigest)}`)
      }
      await sleep(10)
    }
  }

  /** One question, one reply (EXPERT-6). Busy and Refused 4 and 5 are replies, too: see `Session.ask`. */
  ask (question) {
    const reply = new Promise(resolve => this.waiting.set(`${question.session}/${question.round}`, resolve))
    this.asking.send(question)
    return within(ANSWER_MS, `the reply to round ${question.round}`, reply)
  }

  /** The stream of tokenizer.md: like that of the kill switch, the smaller id opens it. */
  takeTokens (stream) {
    this.tokens = new Lane(stream, TOKENIZER, bytes => {
      const message = decode(bytes, TOKENS)
      if (message.type === 'TokenizerWanted') this.tokens.send({ ...message, type: 'TokenizerBusy', retry_after_ms: 0 }) // We have none.
      else this.part?.(message)
    }, () => {})
  }

  /** A tokenizer, part by part (TOK-5, TOK-7). */
  async fetch (wanted, sealedMax) {
    while (this.tokens === undefined) await within(ANSWER_MS, 'the stream for tokenizers', sleep(10))
    const parts = []
    let [size, at] = [undefined, 0]
    await within(60_000, 'the tokenizer', new Promise((resolve, reject) => {
      const ask = () => this.tokens.send({ type: 'TokenizerWanted', ...wanted, offset: at })
      this.part = part => {
        if (part.type === 'TokenizerBusy') {
          if (part.retry_after_ms === 0) reject(new Error('this peer has no such tokenizer'))
          else setTimeout(ask, part.retry_after_ms)
          return
        }
        size ??= part.size
        const whole = part.data.length === Math.min(PART_BYTES, size - at)
        if (part.offset !== at || part.size !== size || size > sealedMax || !whole) return reject(new Breach('a part that was not asked for'))
        at += part.data.length
        parts.push(part.data)
        if (at === size) resolve()
        else ask()
      }
      ask()
    }))
    this.part = undefined
    return Buffer.concat(parts)
  }

  /** STREAM-11. */
  async leave () {
    clearInterval(this.pinging)
    if (this.asking && !this.asking.ended) this.asking.send({ type: 'Goodbye', code: 1 })
    await sleep(20)
    await this.connection.close()
  }

  abort () {
    clearInterval(this.pinging)
    this.connection.abort(new Error('cut off'))
  }
}

/** A peer of a swarm, with a key, a halt state and links. */
export class Client {
  constructor (swarm, charterId, seed = randomBytes(32)) {
    this.swarmName = swarm
    this.swarmTag = blake8(Buffer.from(swarm))
    this.seed = seed
    this.key = publicKeyOf(seed)
    this.peer = peerOf(this.key)
    this.halt = charterId ? new HaltState(charterId) : HaltState.ofOne(this.key)
    this.links = new Map()
    this.capacity = new Map()
    this.badRecords = []
    this.took = []
  }

  async start () {
    const privateKey = await generateKeyPairFromSeed('Ed25519', this.seed)
    this.libp2p = await createLibp2p({
      privateKey,
      addresses: { listen: [] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionGater: { denyDialMultiaddr: () => false }, // Loopback, here.
      connectionMonitor: { enabled: false }, // We ping by ourselves.
      services: {
        identify: identify({ agentVersion: 'swarmllm-interop/1' }),
        ping: ping(),
        dht: kadDHT({
          protocol: `/swarmllm/${this.swarmName}/kad/2`, // As capacity.md says.
          clientMode: true,
          peerInfoMapper: passthroughMapper,
          initialQuerySelfInterval: 0,
          allowQueryWithZeroPeers: false,
          validators: { swarmllm: async (key, value) => void this.openExpertRecord(key, value) },
          selectors: { swarmllm: (key, values) => this.newest(key, values) }
        })
      }
    })
    await this.libp2p.handle(EXPERT, ({ stream, connection }) => this.linkOf(connection).takeAsked(stream))
    await this.libp2p.handle(HALT, ({ stream, connection }) => this.linkOf(connection).takeHalt(stream))
    await this.libp2p.handle(TOKENIZER, ({ stream, connection }) => this.linkOf(connection).takeTokens(stream))
    return this
  }

  linkOf (connection) {
    let link = this.links.get(connection.id)
    if (link === undefined) {
      link = new Link(this, connection)
      this.links.set(connection.id, link)
    }
    return link
  }

  /** Until the peer is ready (STREAM-1) and the halt states are compared. */
  async connect (address) {
    const connection = await this.libp2p.dial(multiaddr(address), { signal: AbortSignal.timeout(ANSWER_MS) })
    const link = this.linkOf(connection)
    if (link.asking === undefined) await link.begin()
    await link.whenSettled()
    return link
  }

  /** CAP-1: a record is opened, and makes sense, before anything is done with it. */
  learn (sealed) {
    try {
      const { author, record } = openEnvelope(sealed, ['CapacityRecord'], RECORD_MAX)
      if (record.sessions_free > record.sessions_max || record.context_max < 1) throw new Breach('a record that makes no sense')
      this.capacity.set(author, record)
    } catch (error) {
      this.badRecords.push(error.message)
    }
  }

  /** CAP-14: the author is the peer in the key. */
  openExpertRecord (key, value) {
    const { author, record } = openEnvelope(value, ['ExpertRecord'], VALUE_MAX)
    if (Buffer.from(key).toString() !== `/swarmllm/${author}`) throw new Breach(`a record of ${author} under the key ${Buffer.from(key)}`)
    return record
  }

  newest (key, values) {
    const boots = values.map(value => this.openExpertRecord(key, value).boot)
    return boots.indexOf(boots.reduce((most, boot) => boot > most ? boot : most))
  }

  /** The peers that the DHT lists under a fingerprint: 32 bytes as they are, no multihash (ID-12). */
  async providers (fingerprint) {
    const key = { multihash: { bytes: fingerprint }, toString: () => hex(fingerprint) }
    const found = new Set()
    for await (const event of this.libp2p.services.dht.findProviders(key, { signal: AbortSignal.timeout(ANSWER_MS) })) {
      if (event.name === 'PROVIDER') for (const { id } of event.providers) found.add(id.toString())
      if (event.name === 'QUERY_ERROR') this.dhtError = event.error
    }
    return found
  }

  /** The newest record under a peer's key, checked. */
  async expertRecord (peer) {
    const key = Buffer.from(`/swarmllm/${peer}`)
    const values = []
    for await (const event of this.libp2p.services.dht.get(key, { signal: AbortSignal.timeout(ANSWER_MS) })) {
      if (event.name === 'VALUE') values.push(event.value)
      if (event.name === 'QUERY_ERROR') this.dhtError = event.error
    }
    if (values.length === 0) throw new Error(`no record of ${peer}: ${this.dhtError ?? 'no peer had one'}`)
    return this.openExpertRecord(key, values[this.newest(key, values)])
  }

  async stop () {
    for (const link of this.links.values()) clearInterval(link.pinging)
    await this.libp2p.stop()
  }
}
