// What the documents demand of several fields of one message at once.

const POSITIONS = 2 ** 20
const LISTS_MAX = 64
const ENTRIES_MAX = 32_768 // EXPERT-5.

function rising (values) {
  return values.every((value, i) => i === 0 || values[i - 1] < value)
}

/** EXPERT-15: the set in its shorter form. */
function wrongSet (allowed) {
  const body = allowed.subarray(1)
  let ids = []
  if (allowed[0] === 0) {
    if (body.length % 4 !== 0) return 'half an id'
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
    ids = Array.from({ length: body.length / 4 }, (_, i) => view.getUint32(4 * i))
    if (!rising(ids)) return 'the ids do not rise'
    if (ids.at(-1) >= POSITIONS) return 'an id of no vocabulary'
  } else if (allowed[0] === 1) {
    if (body.at(-1) === 0) return 'the bitmap ends in a zero'
    body.forEach((byte, i) => {
      for (let bit = 0; bit < 8; bit++) if (byte >> bit & 1) ids.push(8 * i + bit)
    })
  } else {
    return `form ${allowed[0]}`
  }
  if (ids.length === 0) return 'no id'
  const form = 4 * ids.length <= Math.floor(ids.at(-1) / 8) + 1 ? 0 : 1
  return form === allowed[0] ? '' : 'the other form is shorter'
}

function score (m) {
  const n = m.tokens.length
  const steps = m.steps ?? 0
  const lists = m.answer.length + steps
  if (!rising(m.answer) || !rising(m.targets)) return 'indices do not rise'
  if (m.answer.some(i => i >= n)) return 'an answer beyond the tokens'
  if (m.targets.some(i => i >= n - 1)) return 'a target beyond the last but one'
  if (m.base + n + steps > POSITIONS) return 'beyond the longest context'
  if (lists * m.entries_max > ENTRIES_MAX) return 'more entries than an answer may have'
  if (m.type === 'ScoreAllowed') {
    if (m.answer.length !== 1 || m.targets.length !== 0) return 'one answer and no target is asked'
    return wrongSet(m.allowed)
  }
  if (m.type === 'ScoreDraft') {
    if (lists > LISTS_MAX) return 'more lists than an answer may have'
    if (m.answer.at(-1) !== n - 1) return 'the last list is not that of the last token'
  }
  return ''
}

function growing ({ old, new: now }) {
  return old < now ? '' : 'the log does not grow'
}

/** Entries of so many bytes whose first so many rise. */
function risingEntries (bytes, entry, name) {
  if (bytes.length % entry !== 0) return 'half an entry'
  const names = Array.from({ length: bytes.length / entry }, (_, i) =>
    Buffer.from(bytes.subarray(i * entry, i * entry + name)).toString('hex'))
  return rising(names) ? '' : 'entries do not rise'
}

const hex = bytes => Buffer.from(bytes).toString('hex')

/** HALT-2: marks rise by key id, with a seq of at least 1. */
function marks (values) {
  if (!rising(values.map(one => hex(one.subarray(0, 16))))) return 'marks do not rise'
  return values.every(one => Buffer.from(one).readBigUInt64BE(16) > 0n) ? '' : 'a mark of seq 0'
}

function keys (m) {
  const roles = [m.root, m.halt, m.resume, m.voter, m.beacon]
  if (!roles.every(role => rising(role.map(hex)))) return 'the keys of a role do not rise'
  if (m.root_threshold > m.root.length || m.resume_threshold > m.resume.length) return 'a threshold above the keys there are'
  return marks(m.lift_base)
}

function proposal (m) {
  const first = m.height === 1
  return first === m.base.every(byte => byte === 0) ? '' : 'a first change has no base, and every other one has'
}

const faults = {
  Score: score,
  ScoreAllowed: score,
  ScoreDraft: score,
  Scores: m => m.target_logprobs.length % 2 === 0 ? '' : 'half a log-probability',
  Shuffle: m => m.ages.length === m.records.length ? '' : 'ages and records are not as many',
  Shuffled: m => m.ages.length === m.records.length ? '' : 'ages and records are not as many',
  Signed: m => rising(m.signatures.map(one => hex(one.subarray(0, 32)))) ? '' : 'signatures do not rise',
  Resume: m => marks(m.lifts),
  Vectors: m => marks(m.halts) || marks(m.lifts),
  Charter: keys,
  LedgerProofWanted: growing,
  LedgerProof: growing,
  SetBounds: m => m.low <= m.high ? '' : 'the bounds are upside down',
  Proposal: proposal,
  SetSummary: m => risingEntries(m.groups, 16, 8),
  SetWanted: m => risingEntries(m.names, 8, 8)
}

export function fault (message) {
  return faults[message.type]?.(message) ?? ''
}
