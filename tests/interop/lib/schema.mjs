// Schemas of the messages, read from the tables of protocols/*.md: what these leave out, this client cannot say.

import { readFileSync, readdirSync } from 'node:fs'

const FOLDER = new URL('../../../protocols/', import.meta.url)
const TYPE = /^(u|bytes|text|ints|list)\(([^)]*)\)(?: of (u|bytes|text|ints)\(([^)]*)\))?(?::.*)?$/

/** `16,384`, `2^20-1` or `7` as a BigInt. */
function number (text) {
  const [, base, power, less] = /^([\d,]+)(?:\^(\d+))?(?:-(\d+))?$/.exec(text)
  return BigInt(base.replaceAll(',', '')) ** BigInt(power ?? 1) - BigInt(less ?? 0)
}

function bounds (text) {
  const [least, most = least] = text.split('..').map(number)
  return { least, most }
}

/** The items of a list of fields; a comma within brackets divides nothing. */
function items (text) {
  return text.replaceAll('`', '').split(/,(?![^(]*\))/).map(item => item.trim()).filter(Boolean)
}

/** `session, round u(0..9), lists list(0..4) of bytes(1..8)`, or `the fields of Score, then steps u(1..14)`. */
function fields (text, known) {
  const found = []
  for (const item of items(text)) {
    const same = /^the fields of (\w+)$/.exec(item)
    if (same) {
      found.push(...known.get(same[1]).fields)
      continue
    }
    const [, name, type] = /^(?:then )?(\w+)(?: ([a-z].*))?$/.exec(item) ?? []
    if (!name) continue // A condition in words: those are in rules.mjs.
    const kind = type === undefined ? undefined : TYPE.exec(type)
    if (kind === null) throw new Error(`the type of ${item} is none of the notation in README.md`)
    found.push({ name, ...(kind && { kind: kind[1], ...bounds(kind[2]), of: kind[3] && { kind: kind[3], ...bounds(kind[4]) } }) })
  }
  // A name without a type has that of the next one.
  for (let i = found.length - 2; i >= 0; i--) {
    if (found[i].kind === undefined) found[i] = { ...found[i + 1], name: found[i].name }
  }
  return found
}

function * rows (text) {
  for (const line of text.split('\n')) {
    if (line.startsWith('|')) yield line.slice(1, -1).split('|').map(cell => cell.trim())
  }
}

function read () {
  const text = Object.fromEntries(readdirSync(FOLDER).filter(name => name.endsWith('.md'))
    .map(name => [name, readFileSync(new URL(name, FOLDER), 'utf8')]))
  const codes = new Map()
  const domains = new Map()
  for (const [name, code, , , domain] of rows(text['README.md'])) {
    if (/^\d+$/.test(code) && domain !== undefined) {
      codes.set(name, Number(code))
      if (domain) domains.set(name, Buffer.from(domain.replaceAll('`', '').replace('\\0', '\0'), 'latin1'))
    }
  }
  const schemas = new Map()
  for (const page of Object.values(text)) {
    for (const [name, ...cells] of rows(page)) {
      if (!codes.has(name) || schemas.has(name)) continue
      const declared = cells[/^\d+$/.test(cells[0]) ? 1 : 0]
      if (!/(u|bytes|text|ints|list)\(|^the fields of/.test(declared)) continue
      schemas.set(name, { name, code: codes.get(name), domain: domains.get(name), fields: fields(declared, schemas) })
    }
  }
  return { codes, schemas }
}

export const { codes, schemas } = read()
export const nameOf = new Map([...codes].map(([name, code]) => [code, name]))
