// Node.js 20 has no `Promise.withResolvers`, which packages below js-libp2p use.

Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((...both) => { [resolve, reject] = both })
  return { promise, resolve, reject }
}
