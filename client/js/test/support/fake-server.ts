import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { Queue } from './queue.js';

/** A frame as it is on the wire. */
export type WireFrame = Record<string, unknown> & { type: string };

/** A gateway that does what the test tells it. */
export class FakeServer {
  readonly #connections = new Queue<FakeConnection>();
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  /** How many connections were made. */
  accepted = 0;

  private constructor(http: Server) {
    this.#http = http;
    this.#sockets = new WebSocketServer({ server: http, path: '/ws' });
    this.#sockets.on('connection', (socket) => {
      this.accepted++;
      this.#connections.push(new FakeConnection(socket));
    });
  }

  static async start(): Promise<FakeServer> {
    const http = createServer();
    http.listen(0, '127.0.0.1');
    await once(http, 'listening');
    return new FakeServer(http);
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  /** Returns the next connection. */
  connection(): Promise<FakeConnection> {
    return this.#connections.next();
  }

  /** Returns the next connection once it has logged in. */
  async login(answer: Partial<WireFrame> = {}): Promise<FakeConnection> {
    const connection = await this.connection();
    await connection.expect('10');
    connection.send({ type: '11', code: 200, userId: 'alice', deviceId: 'default', sessionId: 's', ...answer });
    return connection;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.clients) {
      socket.terminate();
    }
    this.#sockets.close();
    this.#http.close();
    await once(this.#http, 'close');
  }
}

/** One connection of a client, seen from the server. */
export class FakeConnection {
  readonly #socket: WebSocket;
  readonly #frames = new Queue<WireFrame>();
  /** The code that the client closed with; 1006 if it just went. */
  readonly closed: Promise<number>;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data) => this.#frames.push(JSON.parse(String(data)) as WireFrame));
    this.closed = new Promise((resolve) => {
      socket.on('close', resolve);
    });
  }

  /** Returns the next frame, which must have a type. */
  async expect(type: string): Promise<WireFrame> {
    const frame = await this.#frames.next();
    assert.equal(frame.type, type, JSON.stringify(frame));
    return frame;
  }

  /** How many frames wait to be looked at. */
  get waiting(): number {
    return this.#frames.size;
  }

  send(frame: WireFrame): void {
    this.#socket.send(JSON.stringify(frame));
  }

  /** Answers a chat. */
  answer(chat: WireFrame, rest: Partial<WireFrame> = {}): void {
    const type = String(Number(chat.type) + 1);
    const { clientMsgId } = chat;
    this.send({ type, code: 200, msgId: `m-${clientMsgId}`, clientMsgId, time: 1_700_000_000_000, ...rest });
  }

  /** Closes the connection properly. */
  close(code: number, reason = ''): void {
    this.#socket.close(code, reason);
  }

  /** Ends the connection without a close frame, as a crash does. */
  terminate(): void {
    this.#socket.terminate();
  }
}
