// Relays (reach.md) with another library at each end of them: one peer of js-libp2p has a place at a relay of
// ours, another one reaches it there, and a node of ours behind that relay.

import './lib/node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { decode } from './lib/codec.mjs'
import { EXPERT, Lane, sleep, within } from './lib/network.mjs'

const WITHIN_MS = 60_000
const NONCE = 7
const THROUGH_RELAY = { runOnLimitedConnection: true } // The relay names its limits.

const peer = listen => createLibp2p({
  addresses: { listen },
  transports: [tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping() }
})

/** The nonce of a node's Pong, on a stream of the expert protocol over this connection. */
async function pong (connection) {
  const stream = await connection.newStream(EXPERT, THROUGH_RELAY)
  return new Promise((resolve, reject) => {
    const onFrame = bytes => {
      const message = decode(bytes)
      if (message.type === 'Pong') resolve(message.nonce)
    }
    new Lane(stream, EXPERT, onFrame, reject).send({ type: 'Ping', nonce: NONCE })
  })
}

const [relay, hidden] = process.argv.slice(2)
const sheltered = await peer([`${relay}/p2p-circuit`])
const caller = await peer([])
const placed = async () => {
  while (!sheltered.getMultiaddrs().some(addr => addr.toString().includes('/p2p-circuit'))) await sleep(50)
}
await within(WITHIN_MS, 'a place at the relay', placed())
const found = sheltered.getMultiaddrs().map(String).find(addr => addr.includes('/p2p-circuit'))
const there = await within(WITHIN_MS, 'the connection to it', caller.dial(multiaddr(found)))
const roundTrip = await within(WITHIN_MS, 'its ping', caller.services.ping.ping(there.remoteAddr))
const ours = await within(WITHIN_MS, 'the connection to the node', caller.dial(multiaddr(hidden)))
const nonce = await within(WITHIN_MS, 'its Pong', pong(ours))
console.log(JSON.stringify({
  sheltered: sheltered.peerId.toString(),
  met: there.remotePeer.toString(),
  limited: there.limits != null,
  ping_ms: roundTrip,
  node: ours.remotePeer.toString(),
  asked: NONCE,
  nonce
}))
process.exit(0)
