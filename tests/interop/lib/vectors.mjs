// The examples of protocols/vectors.

import { readFileSync } from 'node:fs'

export function vectors (name) {
  return JSON.parse(readFileSync(new URL(`../../../protocols/vectors/${name}.json`, import.meta.url), 'utf8'))
}

export const bytes = hex => new Uint8Array(Buffer.from(hex, 'hex'))
export const hex = data => Buffer.from(data).toString('hex')
