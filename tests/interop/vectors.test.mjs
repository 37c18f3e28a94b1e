// Every example of protocols/vectors that concerns a client: what is valid is read as it says, what is not is refused.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Breach, Frames, decode, encode } from './lib/codec.mjs'
import { HaltState, keyId, privateCharter } from './lib/halt.mjs'
import { codes, schemas } from './lib/schema.mjs'
import { chained, contextHash, firstLink, keyOf, openEnvelope, peerOf, sha256, sign, verify, blake8 } from './lib/signed.mjs'
import { readList } from './lib/sparse.mjs'
import { readChat, readEncoding } from './lib/tokenizer.mjs'
import { bytes, hex, vectors } from './lib/vectors.mjs'

// They are in a node's own ledger, or behind a digest in a charter, and their fields stand in prose.
const NOT_IN_TABLES = ['HaltedHere', 'ResumedHere', 'OwnerCommand', 'TierDecided', 'Enacted', 'CanaryStep', 'Validated',
  'NotCarriedOut', 'AlarmAcknowledged', 'ReportRead', 'AgentStep', 'ExpertExcluded', 'GovernanceTerms']

/** As the vectors write it: bytes in hex, wide integers as JSON's numbers. */
function shown (value) {
  if (value instanceof Uint8Array) return hex(value)
  if (typeof value === 'bigint') return Number(value)
  return Array.isArray(value) ? value.map(shown) : value
}

function fieldsOf ({ type, ...fields }) {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, shown(value)]))
}

describe('codec.json', () => {
  const { codes: theirs, valid, invalid } = vectors('codec')

  test('the tables of the documents have each message, with its code', () => {
    assert.deepEqual(Object.fromEntries(codes), theirs)
    assert.deepEqual([...codes.keys()].filter(name => !schemas.has(name)).sort(), [...NOT_IN_TABLES].sort())
  })

  for (const { type, fields, hex: written } of valid.filter(one => schemas.has(one.type))) {
    test(`${type} ${written.slice(0, 24)}`, () => {
      const message = decode(bytes(written), [type])
      assert.deepEqual(fieldsOf(message), fields)
      assert.equal(hex(encode(message)), written)
    })
  }

  for (const { name, hex: written } of invalid) {
    test(`refused: ${name}`, () => assert.throws(() => decode(bytes(written)), Breach))
  }
})

describe('framing.json', () => {
  const { valid, invalid } = vectors('framing')
  const read = chunks => {
    const reader = new Frames()
    return chunks.flatMap(chunk => [...reader.feed(bytes(chunk))].map(hex))
  }
  for (const { name, chunks, frames } of valid) test(name, () => assert.deepEqual(read(chunks), frames))
  for (const { name, chunks } of invalid) test(`refused: ${name}`, () => assert.throws(() => read(chunks), Breach))
})

describe('sparse.json', () => {
  const { tolerance, valid, invalid } = vectors('sparse')
  for (const { name, hex: written, vocab_size: size, entries_max: most, ids, logprobs, tail } of valid) {
    test(name, () => {
      const list = readList(bytes(written), most, size)
      assert.deepEqual(list.ids, ids)
      list.logprobs.forEach((value, i) => assert.ok(Math.abs(value - logprobs[i]) <= tolerance, `${value}, not ${logprobs[i]}`))
      assert.ok(Math.abs(list.tail - tail) <= tolerance, `${list.tail}, not ${tail}`)
      const total = list.logprobs.reduce((sum, value) => sum + Math.exp(value), list.tail)
      assert.ok(Math.abs(total - 1) < 1e-9, `a total of ${total}`)
    })
  }
  for (const { name, hex: written, vocab_size: size, entries_max: most } of invalid) {
    test(`refused: ${name}`, () => assert.throws(() => readList(bytes(written), most, size), Breach))
  }
})

describe('names and signatures', () => {
  for (const { public_key: key, peer } of vectors('identity').valid) {
    test(peer, () => {
      assert.equal(peerOf(bytes(key)), peer)
      assert.equal(hex(keyOf(peer)), key)
    })
  }
  for (const { name, peer } of vectors('identity').invalid) test(`no peer id: ${name}`, () => assert.throws(() => keyOf(peer), Breach))

  for (const { name, public_key: key, message, signature, valid } of vectors('ed25519').signatures) {
    test(`signature: ${name}`, () => assert.equal(verify(bytes(key), bytes(message), bytes(signature)), valid))
  }

  const envelopes = vectors('envelope')
  for (const { type, fields, hex: written } of envelopes.valid) {
    test(`envelope of a ${type}`, () => {
      const { author, record } = openEnvelope(bytes(written), [type], 2048)
      assert.equal(author, envelopes.peer)
      assert.deepEqual(fieldsOf(record), fields)
    })
  }
  for (const { name, hex: written } of envelopes.invalid) {
    test(`refused envelope: ${name}`, () => assert.throws(() => openEnvelope(bytes(written), Object.keys(envelopes.domains), 2048), Breach))
  }
  test('the domains are those of the document', () => {
    const ours = Object.fromEntries(Object.keys(envelopes.domains).map(name => [name, schemas.get(name).domain.toString()]))
    assert.deepEqual(ours, envelopes.domains)
  })

  for (const { tokens, digests } of vectors('context').valid) {
    test(`context of ${tokens.length} tokens`, () => {
      digests.forEach((digest, count) => assert.equal(hex(contextHash(tokens.slice(0, count))), digest))
    })
  }

  test('the chain of a session', () => {
    const { session, model_digest: model, rounds, links } = vectors('transcript')
    let link = firstLink(session, bytes(model))
    assert.equal(hex(link), links[0])
    rounds.forEach(({ question, answer }, i) => {
      link = chained(link, decode(bytes(question)), decode(bytes(answer)))
      assert.equal(hex(link), links[i + 1])
    })
  })
})

describe('swarm.json', () => {
  const { vocabularies, swarm_tags: tags, private_charter: lone, dht } = vectors('swarm')
  for (const { name, tokenizer, encoding, chat, fingerprint, chat_digest: digest } of vocabularies) {
    test(`vocabulary: ${name}`, () => {
      const read = readEncoding(bytes(encoding))
      const asked = readChat(bytes(chat), read.tokens)
      assert.equal(hex(sha256(bytes(encoding))), fingerprint)
      assert.equal(hex(sha256(bytes(chat)).subarray(0, 8)), digest)
      assert.deepEqual([read.kind, read.pre, read.merges], [tokenizer.model, tokenizer.pre, tokenizer.merges])
      assert.equal(asked.template, tokenizer.template)
      assert.equal(asked.ids.eos, tokenizer.ids.eos ?? -1)
    })
  }
  for (const { name, tag } of tags) test(`swarm ${name}`, () => assert.equal(hex(blake8(Buffer.from(name))), tag))
  test('the private charter and its greeting', () => {
    const key = bytes(lone.public_key)
    const state = HaltState.ofOne(key)
    assert.equal(hex(encode(privateCharter(key))), lone.charter)
    assert.equal(hex(state.swarm), lone.swarm)
    assert.equal(hex(encode(state.greeting)), lone.greeting)
  })
  test('where the DHT keeps a record', () => assert.equal(hex(Buffer.from(`/swarmllm/${lone.peer}`)), dht.value_key))
})

describe('halt.json', () => {
  const { keys, swarm, records, messages, transcripts, invalid } = vectors('halt')
  const named = new Map(records.map(record => [record.name, bytes(record.hex)]))

  for (const [name, { seed, public_key: key, key: id }] of Object.entries(keys)) {
    test(`key ${name}`, () => {
      assert.equal(keyId(bytes(key)), id)
      assert.ok(verify(bytes(key), Buffer.from('message'), sign(bytes(seed), Buffer.from('message'))))
    })
  }
  for (const { name, type, fields, hex: written } of records) {
    test(`record: ${name}`, () => {
      const signed = decode(bytes(written), ['Signed'])
      const record = decode(signed.payload, [type])
      assert.deepEqual(fieldsOf(record), fields)
      assert.equal(hex(encode(signed)), written)
    })
  }
  for (const { type, hex: written } of messages) test(`frame ${type}`, () => assert.equal(hex(encode(decode(bytes(written), [type]))), written))
  for (const { name, steps } of transcripts) {
    test(`transcript: ${name}`, () => {
      const state = new HaltState(bytes(swarm))
      for (const step of steps) {
        const outcome = state.take(named.get(step.record))
        const vectors = state.vectors
        assert.deepEqual({
          record: step.record,
          outcome: outcome.split(':')[0],
          charter_version: state.version,
          halts: vectors.halts.map(hex),
          lifts: vectors.lifts.map(hex),
          halted: state.halted,
          ctl_digest: hex(state.digest)
        }, (({ strike, ...rest }) => rest)(step), outcome)
      }
    })
  }
  for (const { name, hex: written } of invalid) {
    test(`refused: ${name}`, () => assert.match(new HaltState(bytes(swarm)).take(bytes(written)), /^refused/))
  }
})
