// The yardstick: what LeanCloud's guide shows for getOnOffStatus, a function that answers an MGET of the users' keys. A key
// is "1" while the user is online and "0" afterwards.
import { createServer } from "node:http";
import { Redis } from "ioredis";

const [host, port] = process.argv[2].split(":");
const redis = new Redis({ host, port: Number(port) });

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const { peerIds } = JSON.parse(Buffer.concat(chunks).toString());
    const body = JSON.stringify({ result: await redis.mget(peerIds) });
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }).end(body);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ addr: `127.0.0.1:${server.address().port}` })));
process.stdin.on("end", () => process.exit(0)).resume();
