// Names of peers, and which signatures are good (envelope.md, identity.md).

import { createHash, createPrivateKey, createPublicKey, sign as sign_, verify as verify_ } from 'node:crypto'
import { blake2b } from '@noble/hashes/blake2b'
import { Breach, decode, encode } from './codec.mjs'
import { schemas } from './schema.mjs'
import { hex } from './vectors.mjs'

const LETTERS = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const PEER_PREFIX = Buffer.from('002408011220', 'hex')
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex') // RFC 8410.
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const FIELD = 2n ** 255n - 19n
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n
const EIGHTH = 2707385501144840649318225287225658788936804267575313519463743609750303402022n
const SMALL = new Set([0n, 1n, FIELD - 1n, EIGHTH, FIELD - EIGHTH])

export const sha256 = (...parts) => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return new Uint8Array(hash.digest())
}
export const blake8 = data => blake2b(data, { dkLen: 8 })

/** ENV-4: the peer id of an Ed25519 key. */
export function peerOf (key) {
  let value = BigInt('0x' + hex(Buffer.concat([PEER_PREFIX, key])))
  let text = ''
  for (; value > 0n; value /= 58n) text = LETTERS[Number(value % 58n)] + text
  return '1' + text // The first byte is zero.
}

/** The key in a peer id, or a Breach. */
export function keyOf (peer) {
  if (peer.length !== 52 || [...peer].some(letter => !LETTERS.includes(letter))) throw new Breach('no peer id')
  const value = [...peer].reduce((sum, letter) => sum * 58n + BigInt(LETTERS.indexOf(letter)), 0n)
  const key = Buffer.from(value.toString(16).padStart(76, '0').slice(-64), 'hex')
  if (peerOf(key) !== peer) throw new Breach('a peer id of another kind of key')
  return new Uint8Array(key)
}

const little = bytes => BigInt('0x' + hex(Uint8Array.from(bytes).reverse()))

/** Whether 32 bytes are a canonical point that is not of small order. */
function sound (point) {
  const y = little(point) & (2n ** 255n - 1n)
  return y < FIELD && !SMALL.has(y)
}

/** ENV-5. OpenSSL does the rest as it asks: without the cofactor, comparing R's encoding. */
export function verify (publicKey, message, signature) {
  const [r, s] = [signature.subarray(0, 32), signature.subarray(32)]
  if (little(s) >= ORDER || !sound(publicKey) || !sound(r)) return false
  const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' })
  return verify_(null, message, key, signature)
}

const privateKey = seed => createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' })

export function publicKeyOf (seed) {
  return new Uint8Array(createPublicKey(privateKey(seed)).export({ format: 'der', type: 'spki' }).subarray(-32))
}

export function sign (seed, message) {
  return new Uint8Array(sign_(null, message, privateKey(seed)))
}

/** What a key signs: the domain of the payload's own type, and the payload (ENV-3, HALT-1). */
export function signedBytes (type, payload) {
  const domain = schemas.get(type)?.domain
  if (domain === undefined) throw new Breach(`a ${type} is not signed`)
  return Buffer.concat([domain, payload])
}

/** ENV-2: size, encoding, type, signature, in this order. */
export function openEnvelope (bytes, expected, sizeMax) {
  if (bytes.length > sizeMax) throw new Breach(`an envelope of ${bytes.length} bytes`)
  const envelope = decode(bytes, ['Envelope'])
  const record = decode(envelope.payload, expected)
  if (!verify(envelope.public_key, signedBytes(record.type, envelope.payload), envelope.signature)) {
    throw new Breach('an envelope with a bad signature')
  }
  return { author: peerOf(envelope.public_key), record }
}

/** EXPERT-18: the link behind `link`, of one question and its answer. */
export function chained (link, question, answer) {
  const asked = encode({ ...question, session: 0, round: 0, epoch: 0, ctl_digest: new Uint8Array(8) })
  const said = encode({ ...answer, session: 0, round: 0, epoch: 0, queue_us: 0, compute_us: 0, ctl_digest: new Uint8Array(8) })
  const length = Buffer.alloc(4)
  length.writeUInt32BE(asked.length)
  return sha256(link, length, asked, sha256(said))
}

export function firstLink (session, modelDigest) {
  const number = Buffer.alloc(4)
  number.writeUInt32BE(session)
  return sha256('swarmllm/transcript/1\0', number, modelDigest)
}

/** The rolling hash of a context (expert.md). */
export function contextHash (tokens, before = new Uint8Array(8)) {
  return tokens.reduce((hash, token) => {
    const number = Buffer.alloc(4)
    number.writeUInt32BE(token)
    return blake8(Buffer.concat([hash, number]))
  }, before)
}
