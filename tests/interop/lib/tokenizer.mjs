// Tokenizers as bytes (tokenizer.md): read, compared with their names, and used on text that merges spell.

import { inflateSync } from 'node:zlib'
import { Breach } from './codec.mjs'
import { sha256 } from './signed.mjs'

export const SEALED_MAX = 8 * 2 ** 20
const INFLATED_MAX = 32 * 2 ** 20
const TOKENS_MAX = 2 ** 20
const MERGES_MAX = 2 ** 21
const WITH_UNKNOWN = ['llama', 'bert', 't5', 'plamo2']
// How GPT-2 cuts text before it merges; other pre-tokenizers differ in numbers and line breaks alone.
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

class Section {
  constructor (bytes) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = 0
  }

  take (count) {
    if (count > this.bytes.length - this.at) throw new Breach('a tokenizer that is cut short')
    this.at += count
    return this.bytes.subarray(this.at - count, this.at)
  }

  expect (text) {
    if (this.take(Buffer.byteLength(text)).toString() !== text) throw new Breach(`a tokenizer without ${text}`)
  }

  byte () { return this.take(1)[0] }
  u32 () { return this.take(4).readUInt32BE() }
  data () { return this.take(this.u32()) }
  text () { return utf8.decode(this.data()) }
  id () { return this.u32() - 1 } // -1: none.
  count (most) {
    const count = this.u32()
    if (count > most) throw new Breach(`a tokenizer with ${count} entries`)
    return count
  }

  end () {
    if (this.at !== this.bytes.length) throw new Breach('bytes behind the end of a tokenizer')
  }
}

/** TOK-1. */
export function readEncoding (bytes) {
  const section = new Section(bytes)
  section.expect('swarmllm/vocabulary/2')
  const [kind, pre, flags, unknown] = [section.text(), section.text(), section.byte(), section.id()]
  if (unknown >= 0 && !WITH_UNKNOWN.includes(kind)) throw new Breach(`an unknown token for the kind ${kind}`)
  const count = section.count(TOKENS_MAX)
  const tokens = Array.from({ length: count }, () => {
    const type = section.byte()
    return type === 0 ? { type } : { type, text: section.text() }
  })
  const scores = section.data()
  const merges = Array.from({ length: section.count(MERGES_MAX) }, () => section.text())
  const charsmap = section.data()
  section.end()
  return { kind, pre, spacePrefix: Boolean(flags & 1), trims: Boolean(flags & 2), unknown, tokens, scores, merges, charsmap }
}

/** TOK-2. */
export function readChat (bytes, tokens) {
  const section = new Section(bytes)
  section.expect('swarmllm/chat/1')
  const ids = Object.fromEntries(['bos', 'eos', 'eot', 'eom', 'fim_pad', 'fim_rep', 'fim_sep'].map(name => [name, section.id()]))
  const addBos = [undefined, false, true][section.byte()]
  const [trimming, template] = [section.text(), section.text()]
  const control = tokens.filter(token => token.type === 0).map(() => ({ type: section.byte(), text: section.text() }))
  section.end()
  return { ids, addBos, trimming, template, control }
}

/** TOK-3: what came over the wire is what its two digests name. */
export function openTokenizer (sealed, fingerprint, chatDigest) {
  const whole = new Section(inflateSync(sealed, { maxOutputLength: INFLATED_MAX }))
  const [encoding, chat] = [whole.data(), whole.data()]
  whole.end()
  if (!Buffer.from(fingerprint).equals(sha256(encoding))) throw new Breach('a tokenizer of another fingerprint')
  if (!Buffer.from(chatDigest).equals(sha256(chat).subarray(0, 8))) throw new Breach('a tokenizer of another chat digest')
  const read = readEncoding(encoding)
  return { ...read, chat: readChat(chat, read.tokens) }
}

/** GPT-2's letters for bytes: those that are shown stand for themselves, the others follow from 256 on. */
const letters = (() => {
  const shown = [...Array(256).keys()].filter(byte => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
  let next = 256
  return [...Array(256).keys()].map(byte => String.fromCodePoint(shown.includes(byte) ? byte : next++))
})()

function merged (word, ranks) {
  let parts = [...word]
  for (;;) {
    let best = -1
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`)
      if (rank !== undefined && (best < 0 || rank < ranks.get(`${parts[best]} ${parts[best + 1]}`))) best = i
    }
    if (best < 0) return parts
    parts = [...parts.slice(0, best), parts[best] + parts[best + 1], ...parts.slice(best + 2)]
  }
}

/** Byte-level BPE, with the vocabulary's BOS in front where it asks for it (ID-9). */
export function tokenize (tokenizer, text) {
  if (tokenizer.kind !== 'gpt2') throw new Error(`text of a vocabulary of the kind ${tokenizer.kind} is not cut here`)
  const ids = new Map(tokenizer.tokens.flatMap(({ text: spelt }, id) => spelt === undefined ? [] : [[spelt, id]]))
  const ranks = new Map(tokenizer.merges.map((merge, rank) => [merge, rank]))
  const found = text.match(WORDS).flatMap(word => merged([...Buffer.from(word)].map(byte => letters[byte]).join(''), ranks))
  const tokens = found.map(part => {
    if (!ids.has(part)) throw new Error(`${JSON.stringify(part)} is no token`)
    return ids.get(part)
  })
  return tokenizer.chat.addBos ? [tokenizer.chat.ids.bos, ...tokens] : tokens
}
