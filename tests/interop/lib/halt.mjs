// The halt state (halt.md): which orders count, and what is in force. Only what a peer has to know to follow it.

import { Breach, decode, encode } from './codec.mjs'
import { peerOf, sha256, sign, signedBytes, verify } from './signed.mjs'
import { hex } from './vectors.mjs'

const SIZES = { Halt: 1024, Resume: 1024, Charter: 4096, Live: 1024 }
const LAST = 2n ** 63n - 1n

export const keyId = key => hex(sha256(key).subarray(0, 16))

/** A mark (24 bytes) as `[key id, seq]`, and back. */
const readMark = mark => [hex(mark.subarray(0, 16)), Buffer.from(mark).readBigUInt64BE(16)]
function writeMark ([key, seq]) {
  const bytes = Buffer.alloc(24)
  bytes.write(key, 'hex')
  bytes.writeBigUInt64BE(seq, 16)
  return new Uint8Array(bytes)
}

const byKey = marks => [...marks].sort(([a], [b]) => a < b ? -1 : 1).map(writeMark)

/** ID-7: the charter of a peer that has none. */
export function privateCharter (key) {
  return {
    type: 'Charter', version: 1, prev_hash: new Uint8Array(32), root: [key], halt: [key], resume: [key], voter: [], beacon: [],
    root_threshold: 1, resume_threshold: 1, revert_changes: 3, beacon_ttl_s: 0, lift_base: [], issued_ms: 0, expires_ms: 0,
    ext: new Uint8Array(0)
  }
}

export function sealHalt (seed, key, halt) {
  const payload = encode({ type: 'Halt', ...halt })
  const signature = Buffer.concat([key, sign(seed, signedBytes('Halt', payload))])
  return encode({ type: 'Signed', payload, signatures: [signature] })
}

export class HaltState {
  /** Of a swarm of which nothing but its id is known. */
  constructor (swarm) {
    this.swarm = swarm
    this.charter = undefined
    this.version = 0
    this.hash = new Uint8Array(32)
    this.private = false
    this.halts = new Map()
    this.lifts = new Map()
    this.gone = new Set() // Halt keys that a charter has left out: they never come back (HALT-6).
    this.records = []
  }

  static ofOne (key) {
    const charter = privateCharter(key)
    const state = new HaltState(sha256(encode(charter)))
    state.#adopt(charter, state.swarm)
    state.private = true
    return state
  }

  get halted () {
    return [...this.halts].some(([key, seq]) => seq > (this.lifts.get(key) ?? 0n))
  }

  get vectors () {
    return {
      type: 'Vectors', swarm: this.swarm, charter_version: this.version, charter_hash: this.hash, halts: byKey(this.halts), lifts: byKey(this.lifts)
    }
  }

  /** HALT-14. */
  get digest () {
    if (this.private && this.halts.size + this.lifts.size === 0) return new Uint8Array(8)
    return sha256('swarmllm/ctl-digest/1\0', encode(this.vectors)).subarray(0, 8)
  }

  get greeting () {
    return { type: 'HaltDigest', swarm: this.swarm, charter_version: this.version, ctl_digest: this.digest }
  }

  /** HALT-10: length, encoding, type, swarm, role, whether it is new, signatures. Returns `applied`, `known` or `refused: ...`. */
  take (bytes) {
    let record, signed
    try {
      if (bytes.length > SIZES.Charter) throw new Breach(`${bytes.length} bytes`)
      signed = decode(bytes, ['Signed'])
      record = decode(signed.payload, Object.keys(SIZES))
      if (bytes.length > SIZES[record.type]) throw new Breach(`a ${record.type} of ${bytes.length} bytes`)
    } catch (error) {
      if (error instanceof Breach) return `refused: ${error.message}`
      throw error
    }
    const outcome = record.type === 'Charter'
      ? this.#takeCharter(record, signed)
      : hex(record.swarm) !== hex(this.swarm)
        ? 'refused: of another swarm'
        : { Halt: () => this.#takeHalt(record, signed), Resume: () => this.#takeResume(record, signed), Live: () => this.#takeLive(record, signed) }[record.type]()
    if (outcome === 'applied' && record.type !== 'Live') this.records.push(bytes)
    return outcome
  }

  #takeHalt (halt, signed) {
    const key = hex(halt.key)
    const signer = this.charter?.halt.find(one => keyId(one) === key)
    if (signer === undefined) return 'refused: no halt key of the charter in force'
    if (BigInt(halt.seq) <= (this.halts.get(key) ?? 0n)) return 'known'
    const why = this.#unsigned('Halt', signed, [signer], 1) || (signed.signatures.length === 1 ? '' : 'more than one signature')
    if (why) return `refused: ${why}`
    this.halts.set(key, BigInt(halt.seq))
    return 'applied'
  }

  #takeResume (resume, signed) {
    if (this.charter === undefined || resume.charter_version !== this.version) return 'refused: under another charter'
    const marks = resume.lifts.map(readMark)
    const roles = new Set(this.charter.halt.map(keyId))
    if (!marks.every(([key]) => roles.has(key))) return 'refused: it lifts a key that is no halt key'
    if (marks.every(([key, seq]) => seq <= (this.lifts.get(key) ?? 0n))) return 'known'
    const why = this.#unsigned('Resume', signed, this.charter.resume, this.charter.resume_threshold)
    if (why) return `refused: ${why}`
    for (const [key, seq] of marks) if (seq > (this.lifts.get(key) ?? 0n)) this.lifts.set(key, seq)
    return 'applied'
  }

  #takeLive (live, signed) {
    const signer = this.charter?.beacon.find(one => keyId(one) === hex(live.key))
    if (signer === undefined) return 'refused: no beacon key of the charter in force'
    const why = this.#unsigned('Live', signed, [signer], 1)
    return why ? `refused: ${why}` : 'applied'
  }

  /** HALT-5, HALT-6. */
  #takeCharter (charter, signed) {
    if (charter.version <= this.version) return 'known'
    if (charter.version !== this.version + 1) return 'refused: a charter is missing before it'
    const hash = sha256(signed.payload)
    const before = this.charter
    if (before === undefined) {
      if (hex(hash) !== hex(this.swarm)) return 'refused: of another swarm'
    } else if (hex(charter.prev_hash) !== hex(this.hash)) {
      return 'refused: of another branch'
    }
    const why = this.#wrongKeys(charter) ||
      this.#unsigned('Charter', signed, charter.root, charter.root_threshold, before?.root) ||
      (before && this.#unsigned('Charter', signed, before.root, before.root_threshold, charter.root))
    if (why) return `refused: ${why}`
    this.#adopt(charter, hash)
    return 'applied'
  }

  #wrongKeys (charter) {
    const now = new Set(charter.halt.map(keyId))
    const before = new Set(this.charter?.halt.map(keyId))
    const lifted = new Map(charter.lift_base.map(readMark))
    if ([...before].some(key => !now.has(key) && lifted.get(key) !== LAST)) return 'it forgets a halt key that it leaves out'
    if ([...lifted.keys()].some(key => !now.has(key) && !before.has(key))) return 'it lifts a key that is no halt key'
    return [...now].some(key => this.gone.has(key)) ? 'a halt key comes back' : ''
  }

  /** HALT-13. Marks of keys that are no halt keys any more are in neither vector. */
  #adopt (charter, hash) {
    const now = new Set(charter.halt.map(keyId))
    for (const key of this.charter?.halt.map(keyId) ?? []) if (!now.has(key)) this.gone.add(key)
    this.halts = new Map([...this.halts].filter(([key]) => now.has(key)))
    this.lifts = new Map(charter.lift_base.map(readMark).filter(([key]) => now.has(key)))
    Object.assign(this, { charter, version: charter.version, hash })
  }

  /** Why the signatures do not count: a bad one, one of a key that has no part in it, or too few (HALT-2). */
  #unsigned (type, { payload, signatures }, keys, needed, others = []) {
    const allowed = new Set([...keys, ...others].map(hex))
    const counting = new Set(keys.map(hex))
    const bytes = signedBytes(type, payload)
    for (const one of signatures) {
      const key = one.subarray(0, 32)
      if (!allowed.has(hex(key))) return `a signature of ${peerOf(key)}, which has no part in it`
      if (!verify(key, bytes, one.subarray(32))) return 'a bad signature'
    }
    const count = signatures.filter(one => counting.has(hex(one.subarray(0, 32)))).length
    return count >= needed ? '' : `${count} of ${needed} signatures`
  }
}
