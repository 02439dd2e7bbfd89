// Node's client-sessions and iron-session behind a handler of node:http, in process, with the payloads of compare.rs.
// Prints one JSON document of nanoseconds above a bare handler; benches/peers/run puts it beside the others.

import http from "node:http";
import net from "node:net";
import { Writable } from "node:stream";
import clientSessions from "client-sessions";
import { getIronSession } from "iron-session";

const secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
const account = () => ({
  id: 4711,
  email: "ada@example.com",
  roles: ["customer", "editor"],
  cart: Array.from({ length: 6 }, (_, n) => ({ sku: `SKU-${String(n + 1).padStart(5, "0")}`, quantity: n + 1, price: 2000 + n })),
});
const lost = (what) => { throw new Error(`${what} was lost`); };
// What the handlers do, written once for both libraries.
const payloads = {
  empty: {
    fill: () => {},
    read: (session) => session.n === undefined || lost("emptiness"),
    write: (session) => { session.n = 1; },
  },
  counter: {
    fill: (session) => { session.n = 1; },
    read: (session) => session.n === 1 || lost("the counter"),
    write: (session) => { session.n += 1; },
  },
  cart: {
    fill: (session) => { session.account = account(); },
    read: (session) => session.account.id === 4711 || lost("the cart"),
    write: (session) => { session.account.cart[0].quantity = 9; },
  },
  "2 KiB": {
    fill: (session) => { session.text = "x".repeat(2048); },
    read: (session) => session.text.length === 2048 || lost("the text"),
    write: (session) => { session.text = `y${session.text.slice(1)}`; },
  },
};

const middleware = clientSessions({ cookieName: "s", secret, duration: 24 * 3600 * 1000 });
const clientSession = (act) => (request, response) => middleware(request, response, () => {
  if (act) act(request.s);
  response.end("ok");
});
const ironSession = (act, save) => async (request, response) => {
  const session = await getIronSession(request, response, { password: secret, cookieName: "s", ttl: 86400 });
  act(session);
  if (save) await session.save();
  response.end("ok");
};
const bare = (_, response) => response.end("ok");
// Nobody but the handler calls iron-session, so an untouched request does not meet it.
const peers = {
  "client-sessions 0.8": ({ fill, read, write }) => ({
    fill: clientSession(fill), untouched: clientSession(), read: clientSession(read), "read + write": clientSession(write),
  }),
  "iron-session 8": ({ fill, read, write }, payload) => ({
    fill: ironSession(fill, payload !== "empty"), read: ironSession(read), "read + write": ironSession(write, true),
  }),
};

// One request without a network: the response goes into a stream that forgets it. Resolves to the cookie that was set.
const socket = new net.Socket();
const sink = new Writable({ write: (_chunk, _encoding, done) => done() });
sink.setMaxListeners(0);
const drive = (handler, cookie) => new Promise((done, fail) => {
  const request = new http.IncomingMessage(socket);
  request.method = "GET";
  request.url = "/";
  request.headers = { host: "localhost", cookie };
  const response = new http.ServerResponse(request);
  response.assignSocket(sink);
  response.on("finish", () => {
    response.detachSocket(sink);
    const set = response.getHeader("set-cookie");
    done(set && String(set).split(";")[0]);
  });
  Promise.resolve(handler(request, response)).catch(fail);
});

const rounds = 100;
const calls = 40;
const round = async (handler, cookie) => {
  const start = process.hrtime.bigint();
  for (let n = 0; n < calls; n += 1) await drive(handler, cookie);
  return Number(process.hrtime.bigint() - start) / calls;
};

const rows = [];
for (const [payload, acts] of Object.entries(payloads)) {
  for (const [peer, handlersOf] of Object.entries(peers)) {
    const { fill, ...cases } = handlersOf(acts, payload);
    const own = await drive(fill, "other=1");
    const header = own ?? "other=1";
    for (const [name, handler] of Object.entries(cases)) {
      const cookie = (await drive(handler, header)) ?? own;
      // Best of each half of the rounds, the even and the odd ones: bare, and with the peer.
      const best = [[Infinity, Infinity], [Infinity, Infinity]];
      for (let n = 0; n < rounds; n += 1) {
        const half = best[n % 2];
        half[0] = Math.min(half[0], await round(bare, header));
        half[1] = Math.min(half[1], await round(handler, header));
      }
      const [even, odd] = best.map(([alone, behind]) => behind - alone);
      const above = Math.min(best[0][1], best[1][1]) - Math.min(best[0][0], best[1][0]);
      rows.push({ payload, peer, case: name, above, spread: Math.abs(even - odd), cookie: cookie ? cookie.length - 1 : 0 });
    }
  }
}
console.log(JSON.stringify(rows));
process.exit(0);
