// Node's client-sessions and iron-session: seal and open the same payloads, and the same behind node:http.
// Prints one JSON document; benches/peers/run puts it beside the others.

import http from "node:http";
import clientSessions from "client-sessions";
import { sealData, unsealData, getIronSession } from "iron-session";

const secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
const account = {
  id: 4711,
  email: "ada@example.com",
  roles: ["customer", "editor"],
  cart: Array.from({ length: 6 }, (_, n) => ({ sku: `SKU-${String(n + 1).padStart(5, "0")}`, quantity: n + 1, price: 2000 + n })),
};
const payloads = { counter: { n: 1 }, cart: { account }, "2 KiB": { text: "x".repeat(2048) } };
const options = { cookieName: "s", secret, duration: 24 * 3600 * 1000 };

const best = async (rounds, calls, call) => {
  let least = Infinity;
  for (let round = 0; round < rounds; round += 1) {
    const start = process.hrtime.bigint();
    for (let n = 0; n < calls; n += 1) await call();
    least = Math.min(least, Number(process.hrtime.bigint() - start) / calls);
  }
  return least;
};

const sealed = [];
for (const [payload, content] of Object.entries(payloads)) {
  const value = clientSessions.util.encode(options, content);
  const opened = clientSessions.util.decode(options, value);
  if (JSON.stringify(opened.content) !== JSON.stringify(content)) throw new Error("client-sessions lost something");
  sealed.push({
    payload, peer: "client-sessions 0.8", cookie: 1 + value.length,
    seal: await best(20, 200, () => clientSessions.util.encode(options, content)),
    open: await best(20, 200, () => clientSessions.util.decode(options, value)),
  });
  const iron = await sealData(content, { password: secret, ttl: 86400 });
  sealed.push({
    payload, peer: "iron-session 8", cookie: 1 + iron.length,
    seal: await best(10, 50, () => sealData(content, { password: secret, ttl: 86400 })),
    open: await best(10, 50, () => unsealData(iron, { password: secret, ttl: 86400 })),
  });
}

// Behind the server: microseconds per request over one kept connection, above a bare handler.
const listen = (handler) => new Promise((done) => {
  const server = http.createServer(handler);
  server.listen(0, "127.0.0.1", () => done(server));
});
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const ask = (server, path, cookie) => new Promise((done, fail) => {
  const headers = cookie ? { cookie } : {};
  http.get({ port: server.address().port, host: "127.0.0.1", path, agent, headers }, (response) => {
    response.resume();
    response.on("end", () => done(response.headers["set-cookie"]));
  }).on("error", fail);
});
const middleware = clientSessions(options);
const servers = {
  "client-sessions 0.8": await listen((request, response) => middleware(request, response, () => {
    if (request.url === "/fill") request.s.account = account;
    if (request.url === "/read" && request.s.account.id !== 4711) throw new Error("lost");
    if (request.url === "/write") request.s.account = { ...request.s.account, seen: 1 };
    response.end("ok");
  })),
  "iron-session 8": await listen(async (request, response) => {
    if (request.url !== "/untouched") {
      const session = await getIronSession(request, response, { password: secret, cookieName: "s", cookieOptions: { secure: false } });
      if (request.url === "/fill") session.account = account;
      if (request.url === "/read" && session.account.id !== 4711) throw new Error("lost");
      if (request.url === "/write") session.account = { ...session.account, seen: 1 };
      if (request.url !== "/read") await session.save();
    }
    response.end("ok");
  }),
};
const bare = await listen((_, response) => response.end("ok"));
const served = [];
for (const [peer, server] of Object.entries(servers)) {
  const cookie = (await ask(server, "/fill"))[0].split(";")[0];
  for (const path of ["untouched", "read", "write"]) {
    const least = [Infinity, Infinity];
    for (let round = 0; round < 10; round += 1) {
      least[0] = Math.min(least[0], await best(1, 100, () => ask(bare, "/untouched", cookie)));
      least[1] = Math.min(least[1], await best(1, 100, () => ask(server, `/${path}`, cookie)));
    }
    served.push({ peer, case: path === "write" ? "read + write" : path, above: least[1] - least[0] });
  }
  server.close();
}
bare.close();
agent.destroy();
console.log(JSON.stringify({ sealed, served }));
process.exit(0);
