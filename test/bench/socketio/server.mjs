// The yardstick: what the documentation of Socket.IO shows for several servers on one Redis. A user is in the room of the
// user's name; the sender and the recipient each get an acknowledgement.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const publisher = createClient({ url: `redis://${process.argv[2]}` });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const server = createServer();
const io = new Server(server, { adapter: createAdapter(publisher, subscriber), transports: ["websocket"] });
io.on("connection", (socket) => {
  socket.join(socket.handshake.query.user);
  socket.on("chat", (to, message, done) => {
    io.to(to).emit("chat", message);
    done();
  });
  socket.on("ack", (done) => done());
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ addr: `127.0.0.1:${server.address().port}` })));
process.stdin.on("end", () => process.exit(0)).resume();
