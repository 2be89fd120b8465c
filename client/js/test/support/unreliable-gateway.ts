import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import type { WireFrame } from './fake-server.js';

/** A message that waits for the client. */
interface Mail {
  msgId: string;
  acknowledged: boolean;
}

/**
 * A gateway that keeps what it promises, and nothing else: it breaks connections at any point, refuses, answers late, and
 * sends again what it has sent. Chance decides.
 */
export class UnreliableGateway {
  /** The ids of the messages that the client sent, in the order in which they were stored. */
  readonly stored: string[] = [];
  readonly #mail: Mail[];
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #chance: () => number;

  private constructor(http: Server, mail: string[], chance: () => number) {
    this.#http = http;
    this.#mail = mail.map((msgId) => ({ msgId, acknowledged: false }));
    this.#chance = chance;
    this.#sockets = new WebSocketServer({ server: http });
    this.#sockets.on('connection', (socket) => this.#serve(socket));
  }

  /** Starts one that has mail for the client. */
  static async start(mail: string[], chance: () => number): Promise<UnreliableGateway> {
    const http = createServer();
    http.listen(0, '127.0.0.1');
    await once(http, 'listening');
    return new UnreliableGateway(http, mail, chance);
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#http.address() as AddressInfo).port}/ws`;
  }

  /** How many messages the client has not acknowledged. */
  get unacknowledged(): number {
    return this.#mail.filter(({ acknowledged }) => !acknowledged).length;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets.clients) {
      socket.terminate();
    }
    this.#sockets.close();
    this.#http.close();
    await once(this.#http, 'close');
  }

  #serve(socket: WebSocket): void {
    const send = (frame: WireFrame) => socket.readyState === socket.OPEN && socket.send(JSON.stringify(frame));
    let redelivery: NodeJS.Timeout | undefined;
    socket.on('close', () => clearInterval(redelivery));
    socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as WireFrame;
      if (this.#chance() < 0.02) {
        socket.terminate(); // before it was done
        return;
      }
      const answer = this.#handle(frame);
      if (this.#chance() < 0.02) {
        socket.terminate(); // after it was done, and before the answer
        return;
      }
      if (answer !== undefined) {
        setTimeout(() => send(answer), this.#chance() < 0.1 ? 5 * this.#chance() : 0);
      }
      if (answer?.type === '11' && answer.code === 200) {
        this.#deliver(send);
        redelivery = setInterval(() => this.#deliver(send, true), 20);
      }
    });
  }

  #handle({ type, clientMsgId, msgId }: WireFrame): WireFrame | undefined {
    const refused = this.#chance() < 0.05;
    switch (type) {
      case '10':
        return refused ? { type: '11', code: 500, delayMs: 3 } : { type: '11', code: 200, userId: 'alice' };
      case '40':
        return { type: '41' };
      case '80': {
        if (refused) {
          return { type: '81', code: this.#chance() < 0.5 ? 500 : 601, clientMsgId, delayMs: 5 * this.#chance() };
        }
        const id = String(clientMsgId);
        if (!this.stored.includes(id)) {
          this.stored.push(id);
        }
        return { type: '81', code: 200, msgId: `m-${id}`, clientMsgId, time: 1 };
      }
      case '90': {
        if (refused) {
          return { type: '91', code: 601, msgId, delayMs: 3 };
        }
        const mail = this.#mail.find((mail) => mail.msgId === msgId);
        if (mail !== undefined) {
          mail.acknowledged = true;
        }
        return { type: '91', code: 200, msgId };
      }
      default:
        return undefined;
    }
  }

  /** Sends what is not acknowledged, and sometimes what is. */
  #deliver(send: (frame: WireFrame) => void, redelivered?: true): void {
    for (const { msgId, acknowledged } of this.#mail) {
      if (!acknowledged || this.#chance() < 0.02) {
        send({ type: '80', msgId, fromId: 'bob', toId: 'alice', time: 1, content: msgId, redelivered });
      }
    }
  }
}
