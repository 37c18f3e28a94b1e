// The one encoding of each message (WIRE-1 to WIRE-7), and frames (FRAME-1 to FRAME-3).

import { nameOf, schemas } from './schema.mjs'
import { fault } from './rules.mjs'

export const FRAME_MAX = 262_144
const ARRAY_SHORT_MAX = 15
// WIRE-5: the characters that no text may have.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/u
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class Breach extends Error {}

function refuse (what) {
  throw new Breach(what)
}

class Reader {
  constructor (bytes) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = 0
  }

  take (count) {
    if (count > this.bytes.length - this.at) refuse('it is cut short')
    this.at += count
    return this.at - count
  }

  byte () {
    return this.bytes[this.take(1)]
  }

  /** A big-endian integer of 1, 2, 4 or 8 bytes; of 8 as a BigInt. */
  whole (size) {
    const at = this.take(size)
    if (size === 8) return this.view.getBigUint64(at)
    return size === 4 ? this.view.getUint32(at) : size === 2 ? this.view.getUint16(at) : this.view.getUint8(at)
  }

  integer () {
    const first = this.byte()
    if (first < 0x80) return first
    if (first < 0xcc || first > 0xcf) refuse(`0x${first.toString(16)} begins no unsigned integer`)
    const size = 1 << (first - 0xcc)
    const value = this.whole(size)
    const least = size === 1 ? 0x80n : 1n << BigInt(4 * size)
    if (BigInt(value) < least) refuse('an integer is not in its shortest form')
    return typeof value === 'bigint' && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
  }

  /** The length behind one of three headers, for lengths of 1, 2 and 4 bytes. */
  length (header, first) {
    if (header < first || header > first + 2) refuse(`0x${header.toString(16)} is another type's header`)
    const size = 1 << (header - first)
    const value = this.whole(size)
    if (size > 1 && value < 2 ** (4 * size)) refuse('a length is not in its shortest form')
    return value
  }

  bin () {
    const count = this.length(this.byte(), 0xc4)
    const at = this.take(count)
    return this.bytes.slice(at, at + count)
  }

  str () {
    const header = this.byte()
    const short = header >= 0xa0 && header <= 0xbf
    const count = short ? header - 0xa0 : this.length(header, 0xd9)
    if (!short && count < 32) refuse('a length is not in its shortest form')
    const at = this.take(count)
    let text
    try {
      text = utf8.decode(this.bytes.subarray(at, at + count))
    } catch {
      refuse('a text is not UTF-8')
    }
    if (UNPRINTABLE.test(text)) refuse('a text has a character that is not shown')
    return text
  }

  array () {
    const header = this.byte()
    if (header >= 0x90 && header <= 0x9f) return header - 0x90
    if (header !== 0xdc) refuse('this is no array')
    const count = this.whole(2)
    if (count <= ARRAY_SHORT_MAX) refuse('a length is not in its shortest form')
    return count
  }
}

function within (value, { least, most }, name) {
  if (BigInt(value) < least || BigInt(value) > most) refuse(`${name}: ${value} is not ${least} to ${most}`)
  return value
}

/** `ints` are packed: one bin of big-endian u32. */
function unpack (bytes, field) {
  if (bytes.length % 4 !== 0) refuse(`${field.name}: half an integer`)
  within(bytes.length / 4, field, field.name)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: bytes.length / 4 }, (_, i) => within(view.getUint32(4 * i), field.of, field.name))
}

function readField (reader, field) {
  switch (field.kind) {
    case 'u': return within(reader.integer(), field, field.name)
    case 'bytes': {
      const bytes = reader.bin()
      within(bytes.length, field, field.name)
      return bytes
    }
    case 'text': {
      const begun = reader.at
      const text = reader.str()
      within(Buffer.byteLength(text), field, `${field.name} at ${begun}`)
      return text
    }
    case 'ints': return unpack(reader.bin(), field)
    case 'list': {
      const count = within(reader.array(), field, field.name)
      return Array.from({ length: count }, () => readField(reader, { name: field.name, ...field.of }))
    }
  }
}

/** The message, as `{ type, ...fields }`, if it is one of the types expected. */
export function decode (bytes, expected) {
  const reader = new Reader(bytes)
  const count = reader.array()
  const code = reader.byte()
  const name = nameOf.get(code)
  const schema = schemas.get(name)
  if (schema === undefined) refuse(`${code} is no type code`)
  if (expected !== undefined && !expected.includes(name)) refuse(`${name} does not belong here`)
  if (count !== schema.fields.length + 1) refuse(`${name} has ${schema.fields.length} fields, not ${count - 1}`)
  const message = { type: name }
  for (const field of schema.fields) message[field.name] = readField(reader, field)
  if (reader.at !== bytes.length) refuse('bytes stand behind its end')
  const why = fault(message)
  if (why) refuse(`${name}: ${why}`)
  return message
}

function bigEndian (value, size) {
  const bytes = Buffer.alloc(size)
  if (size === 8) bytes.writeBigUInt64BE(BigInt(value))
  else bytes.writeUIntBE(Number(value), 0, size)
  return bytes
}

function integer (value) {
  if (value < 0x80) return Buffer.of(Number(value))
  const power = value < 0x100 ? 0 : value < 0x10000 ? 1 : value < 0x100000000 ? 2 : 3
  return Buffer.concat([Buffer.of(0xcc + power), bigEndian(value, 1 << power)])
}

function headed (first, bytes) {
  const power = bytes.length < 0x100 ? 0 : bytes.length < 0x10000 ? 1 : 2
  return Buffer.concat([Buffer.of(first + power), bigEndian(bytes.length, 1 << power), bytes])
}

function text (value) {
  const bytes = Buffer.from(value)
  return bytes.length < 32 ? Buffer.concat([Buffer.of(0xa0 + bytes.length), bytes]) : headed(0xd9, bytes)
}

function array (count) {
  return count <= ARRAY_SHORT_MAX ? Buffer.of(0x90 + count) : Buffer.concat([Buffer.of(0xdc), bigEndian(count, 2)])
}

function writeField (field, value) {
  switch (field.kind) {
    case 'u': return integer(value)
    case 'bytes': return headed(0xc4, value)
    case 'text': return text(value)
    case 'ints': return headed(0xc4, Buffer.concat(value.map(one => bigEndian(one, 4))))
    case 'list': return Buffer.concat([array(value.length), ...value.map(one => writeField(field.of, one))])
  }
}

export function encode (message) {
  const schema = schemas.get(message.type)
  const parts = schema.fields.map(field => {
    if (message[field.name] === undefined) throw new Error(`${message.type} lacks ${field.name}`)
    return writeField(field, message[field.name])
  })
  return Buffer.concat([array(parts.length + 1), Buffer.of(schema.code), ...parts])
}

export function frame (bytes) {
  return Buffer.concat([bigEndian(bytes.length, 4), bytes])
}

/** Cuts a stream into frames, however it arrives. */
export class Frames {
  constructor (most = FRAME_MAX) {
    this.most = most
    this.held = Buffer.alloc(0)
  }

  get begun () {
    return this.held.length > 0
  }

  * feed (chunk) {
    this.held = Buffer.concat([this.held, chunk])
    while (this.held.length >= 4) {
      const length = this.held.readUInt32BE()
      if (length < 1 || length > this.most) refuse(`a frame of ${length} bytes`)
      if (this.held.length < 4 + length) return
      yield new Uint8Array(this.held.subarray(4, 4 + length))
      this.held = this.held.subarray(4 + length)
    }
  }
}
