// The sparse list (sparse.md): read, checked and scaled.

import { Breach } from './codec.mjs'

const RICE_TOLERANCE = 4 / 3
const RAW_TOLERANCE = 1.02
const GAP_SHIFT_MAX = 20
const STEP_SHIFT_MAX = 5

function refuse (what) {
  throw new Breach(`sparse list: ${what}`)
}

class Bits {
  constructor (bytes) {
    this.bytes = bytes
    this.at = 0
  }

  bit () {
    if (this.at >= 8 * this.bytes.length) refuse('it is cut short')
    const bit = this.bytes[this.at >> 3] >> (7 - (this.at & 7)) & 1
    this.at++
    return bit
  }

  number (count) {
    let value = 0
    for (let i = 0; i < count; i++) value = 2 * value + this.bit()
    return value
  }

  /** So many Rice-coded numbers: all quotients, then all remainders. */
  rice (count, shift) {
    const quotients = []
    for (let i = 0; i < count; i++) {
      let zeros = 0
      while (this.bit() === 0) zeros++
      quotients.push(zeros)
    }
    return quotients.map(quotient => quotient * 2 ** shift + this.number(shift))
  }

  /** What fills the last byte. */
  end () {
    if (8 * this.bytes.length - this.at >= 8) refuse('bytes stand behind its end')
    while (this.at < 8 * this.bytes.length) if (this.bit()) refuse('it is not filled up with zeros')
  }
}

function half (bits) {
  const sign = bits >> 15 ? -1 : 1
  const exponent = bits >> 10 & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return exponent ? sign * (1 + fraction / 1024) * 2 ** (exponent - 15) : sign * fraction * 2 ** -24
}

function rice (bytes, view) {
  if (bytes.length < 7) refuse('it is cut short')
  const n = view.getUint16(1) + 1
  const [gapShift, stepShift, grain, deepest] = [bytes[3] >> 3, bytes[3] & 7, bytes[4] >> 6, bytes[4] & 63]
  if (gapShift > GAP_SHIFT_MAX || stepShift > STEP_SHIFT_MAX) refuse(`shifts of ${gapShift} and ${stepShift}`)
  if (n > 8 * bytes.length) refuse('more entries than bits')
  const bits = new Bits(bytes.subarray(7))
  const gaps = bits.rice(n, gapShift)
  const cells = bits.rice(n, stepShift).map(step => deepest - step)
  if (cells.some(cell => cell < 0)) refuse('a value above 0')
  const values = cells.map(cell => {
    const halvings = Math.max(0, Math.floor((37 + 3 * (grain - cell)) / 4))
    return -(cell + (bits.number(halvings) + 0.5) / 2 ** halvings) / 2
  })
  bits.end()
  let id = -1
  return { n, ids: gaps.map(gap => (id += gap + 1)), values, odds: view.getUint16(5), tolerance: RICE_TOLERANCE }
}

function raw (bytes, view) {
  if (bytes.length < 5) refuse('it is cut short')
  const n = view.getUint16(1)
  if (bytes.length !== 5 + 6 * n) refuse(`${bytes.length} bytes for ${n} entries`)
  const ids = Array.from({ length: n }, (_, i) => view.getUint32(5 + 4 * i))
  const values = Array.from({ length: n }, (_, i) => half(view.getUint16(5 + 4 * n + 2 * i)))
  return { n, ids, values, odds: view.getUint16(3), tolerance: RAW_TOLERANCE }
}

/** `{ ids, logprobs, tail }`, or a Breach (SPARSE-6 to SPARSE-8). */
export function readList (bytes, entriesMax, vocabSize) {
  if (bytes.length > 8 + 6 * entriesMax) refuse(`${bytes.length} bytes for ${entriesMax} entries at most`)
  if (bytes.length === 0 || bytes[0] > 1) refuse('it has neither form')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const { n, ids, values, odds: code, tolerance } = (bytes[0] ? rice : raw)(bytes, view)
  if (n < 1 || n > entriesMax) refuse(`${n} entries`)
  if (ids.some((id, i) => id >= vocabSize || (i > 0 && id <= ids[i - 1]))) refuse('ids that do not rise, or of no token')
  if (values.some(value => !(value <= 0 && value > -Infinity))) refuse('a value that is no log-probability')
  const largest = Math.max(...values)
  if (values.filter(value => value === largest).length !== 1) refuse('no single largest value')
  const odds = code === 0 ? 0 : 2 ** ((code - 32768) / 1024)
  const kept = 1 / (1 + odds)
  const mass = values.reduce((sum, value) => sum + Math.exp(value), 0)
  if (mass > kept * tolerance || mass < kept / tolerance) refuse(`a mass of ${mass} where the odds say ${kept}`)
  const shift = Math.log(kept / mass)
  return { ids, logprobs: values.map(value => value + shift), tail: odds * kept }
}
