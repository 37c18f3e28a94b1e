// An expert session (expert.md): questions about one text, and what is checked of each answer.

import { chained, contextHash, firstLink, openEnvelope } from './signed.mjs'
import { sleep } from './network.mjs'
import { readList } from './sparse.mjs'
import { hex } from './vectors.mjs'

const TRIES_MAX = 60
const SEALED_MAX = 256
const QUESTIONS = { 3: 'ScoreAllowed', 6: 'ScoreDraft', 7: 'SignSession' }
let sessions = 0

/** WIRE-7: the additions of a record, by type. */
export function additions (ext) {
  const found = new Map()
  for (let at = 0; at + 1 < ext.length; at += 2 + ext[at + 1]) found.set(ext[at], ext.subarray(at + 2, at + 2 + ext[at + 1]))
  return found
}

export class Session {
  constructor (link, record, vocabSize) {
    Object.assign(this, { link, record, vocabSize, number: ++sessions, round: 0, context: [], rounds: 0, replies: [] })
    this.chain = firstLink(this.number, record.model_digest)
    this.open()
  }

  open () {
    const { model_digest, vocab_fingerprint } = this.record
    this.link.asking.send({ type: 'Open', session: this.number, model_digest, vocab_fingerprint, ctl_digest: this.link.client.halt.digest })
    Object.assign(this, { chain: firstLink(this.number, model_digest), rounds: 0 })
  }

  /** Whether the expert answers this kind of question, by its record. */
  takes (type) {
    return [...additions(this.record.ext).keys()].some(addition => QUESTIONS[addition] === type)
  }

  /**
   * Lists for the indices of `answer` in `tokens`, which stand behind the first `base` of the context. Busy is asked again when it
   * says, Need from where it says, and what passes (Refused 4 and 5) after 0.1 s. `{ type }` alone if the swarm is halted.
   */
  async ask (tokens, { base = this.context.length, answer = [tokens.length - 1], targets = [], entriesMax = 256, type = 'Score', ...more } = {}) {
    let [from, behind, wanted, learned] = [base, tokens, answer, targets]
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const question = {
        type, session: this.number, round: ++this.round, epoch: 0, base: from, context_hash: contextHash(this.context.slice(0, from)),
        tokens: behind, answer: wanted, targets: learned, entries_max: entriesMax, tail_max: 0, ctl_digest: this.link.client.halt.digest, ...more
      }
      const reply = await this.link.ask(question)
      this.replies.push(reply.type)
      switch (reply.type) {
        case 'Scores':
          this.context = [...this.context.slice(0, base), ...tokens]
          this.chain = chained(this.chain, question, reply)
          this.rounds++
          return { type: 'Scores', reply, lists: this.#read(reply, question) }
        case 'Need': { // EXPERT-8.
          if (reply.have >= from) throw new Error(`Need ${reply.have} for a base of ${from}`)
          const shift = from - reply.have
          behind = [...this.context.slice(reply.have, from), ...behind]
          wanted = wanted.map(i => i + shift)
          learned = learned.map(i => i + shift)
          from = reply.have
          break
        }
        case 'Busy':
          await sleep(Math.max(20, Math.min(reply.retry_after_ms, 1000)))
          break
        case 'Refused':
          if (![4, 5].includes(reply.code)) throw new Error(`refused with ${reply.code}`)
          await sleep(100)
          if (reply.code === 4) this.open()
          break
        case 'Halted':
          return reply
        default:
          throw new Error(`no answer: ${reply.why}`)
      }
    }
    throw new Error(`put off ${TRIES_MAX} times: ${[...new Set(this.replies)]}`)
  }

  /** EXPERT-10. */
  #read (reply, question) {
    const expected = question.answer.length + (question.steps ?? 0)
    const numbers = question.type === 'ScoreAllowed' ? 1 : question.targets.length
    if (reply.lists.length !== expected) throw new Error(`${reply.lists.length} lists for ${expected}`)
    if (reply.target_logprobs.length !== 2 * numbers) throw new Error(`${reply.target_logprobs.length} bytes of log-probabilities for ${numbers}`)
    if (hex(reply.ctl_digest) !== hex(this.link.client.halt.digest)) throw new Error('an answer under another halt state')
    return reply.lists.map(list => readList(list, question.entries_max, this.vocabSize))
  }

  /** EXPERT-17, EXPERT-18. */
  async signed () {
    const coming = this.link.until('the signature', m => m.type === 'SessionSigned' && m.session === this.number)
    this.link.asking.send({ type: 'SignSession', session: this.number })
    const { sealed } = await coming
    const { author, record } = openEnvelope(sealed, ['SessionRecord'], SEALED_MAX)
    if (author !== this.link.peer) throw new Error(`signed by ${author}`)
    if (record.session !== this.number || record.rounds !== this.rounds || hex(record.chain) !== hex(this.chain)) {
      throw new Error(`it signs ${record.rounds} rounds and the chain ${hex(record.chain)}; it answered ${this.rounds}, ${hex(this.chain)}`)
    }
    return record
  }

  close () {
    if (!this.link.asking.ended) this.link.asking.send({ type: 'Close', session: this.number })
  }
}

/** The likeliest token of lists that count equally: what is in none of them has the even share of its tail. */
export function likeliest (lists, vocabSize) {
  const pooled = new Map()
  const rest = lists.map(list => list.tail / Math.max(1, vocabSize - list.ids.length))
  for (const id of new Set(lists.flatMap(list => list.ids))) {
    let sum = 0
    lists.forEach((list, k) => {
      const at = list.ids.indexOf(id)
      sum += at < 0 ? rest[k] : Math.exp(list.logprobs[at])
    })
    pooled.set(id, sum / lists.length)
  }
  return [...pooled].reduce((best, one) => one[1] > best[1] || (one[1] === best[1] && one[0] < best[0]) ? one : best)
}

/** Total variation between two lists, each tail taken as one. */
export function difference (one, other) {
  const [a, b] = [one, other].map(({ ids, logprobs }) => new Map(ids.map((id, i) => [id, Math.exp(logprobs[i])])))
  let sum = Math.abs(one.tail - other.tail)
  for (const id of new Set([...a.keys(), ...b.keys()])) sum += Math.abs((a.get(id) ?? 0) - (b.get(id) ?? 0))
  return sum / 2
}
