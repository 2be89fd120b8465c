import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { built, type Disposable, freePort, Program, temporaryDirectory } from './process.js';

/** A platform in one process: two gateways, presence and Redis, as `make dev` runs it. */
export interface DevPlatform extends Disposable {
  gateways: [string, string];
  presence: string;
  apiKey: string;
}

/** Starts a platform on free ports. */
export async function startDev(): Promise<DevPlatform> {
  const args = [
    '--json',
    'dev',
    '--gateway-listen',
    '127.0.0.1:0,127.0.0.1:0',
    '--presence-listen',
    '127.0.0.1:0',
    '--grpc-listen',
    '127.0.0.1:0',
  ];
  const program = new Program(built('imctl'), args);
  try {
    const platform = JSON.parse(await program.line(/"gateways"/)) as Omit<DevPlatform, 'stop'>;
    return { ...platform, stop: () => program.stop() };
  } catch (error) {
    await program.stop();
    throw error;
  }
}

/** The key of pairs of gateways, for each other and for tokens. */
const key = 'a key of 32 bytes, and no secret';

/** Returns a JSON Web Token that a pair of gateways takes for so many seconds. */
export function jwt(user: string, seconds: number): string {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const iat = Math.floor(Date.now() / 1000);
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ sub: user, iat, exp: iat + seconds })}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

/** A gateway in a process of its own. */
interface Gateway {
  program: Program;
  port: number;
}

/** Two gateways in processes of their own, and an address in front of both, as a Service is. */
export class GatewayPair implements Disposable {
  readonly #stops: (() => Promise<void>)[];
  readonly #gateways: [Gateway, Gateway];
  readonly #service: Forwarder;

  private constructor(stops: (() => Promise<void>)[], gateways: [Gateway, Gateway], service: Forwarder) {
    this.#stops = stops;
    this.#gateways = gateways;
    this.#service = service;
  }

  static async start(auth: 'insecure' | 'jwt' = 'insecure'): Promise<GatewayPair> {
    const stops: (() => Promise<void>)[] = [];
    const started = <Thing extends Disposable>(thing: Thing): Thing => {
      stops.unshift(() => thing.stop());
      return thing;
    };
    try {
      const directory = started(await temporaryDirectory());
      await writeFile(join(directory.path, 'current'), key);
      const redisPort = await freePort();
      const redis = started(
        new Program('redis-server', [
          ...['--bind', '127.0.0.1', '--port', String(redisPort), '--dir', directory.path, '--save', ''],
          ...['--maxmemory-policy', 'noeviction'],
        ]),
      );
      await redis.line(/Ready to accept connections/);
      const start = async (name: string): Promise<Gateway> => {
        const port = await freePort();
        const peerPort = await freePort();
        const program = started(
          new Program(built('gateway'), [
            ...['--redis-addresses', `127.0.0.1:${redisPort}`, '--auth-mode', auth],
            ...(auth === 'jwt' ? ['--jwt-secret-dir', directory.path] : []),
            ...['--peer-key-dir', directory.path, '--listen', `127.0.0.1:${port}`, '--ops-listen', ''],
            ...['--peer-listen', `127.0.0.1:${peerPort}`, '--advertise-address', `127.0.0.1:${peerPort}`],
            ...['--pod-name', name, '--pod-uid', name, '--shutdown-delay', '0s', '--drain-window', '20s'],
            ...['--allow-broadcast', '--allow-online-list'],
          ]),
        );
        await program.line(/joined the cluster/);
        return { program, port };
      };
      const gateways: [Gateway, Gateway] = [await start('a'), await start('b')];
      const service = started(await Forwarder.start(gateways[0].port));
      return new GatewayPair(stops, gateways, service);
    } catch (error) {
      await stopAll(stops);
      throw error;
    }
  }

  /** The address in front of the gateways. */
  get url(): string {
    return `ws://127.0.0.1:${this.#service.port}/ws`;
  }

  /** The address of one of them. */
  urlOf(gateway: 0 | 1): string {
    return `ws://127.0.0.1:${this.#gateways[gateway].port}/ws`;
  }

  /** Lets new connections come to one of them. */
  lead(gateway: 0 | 1): void {
    this.#service.target = this.#gateways[gateway].port;
  }

  /** Ends one as a crash does. */
  kill(gateway: 0 | 1): Promise<void> {
    return this.#gateways[gateway].program.kill();
  }

  /** Ends one as a rollout does. Resolves when it has moved its clients. */
  drain(gateway: 0 | 1): Promise<void> {
    return this.#gateways[gateway].program.stop();
  }

  stop(): Promise<void> {
    return stopAll(this.#stops);
  }
}

/** Stops things one after the other. */
async function stopAll(stops: (() => Promise<void>)[]): Promise<void> {
  for (const stop of stops) {
    await stop();
  }
}

/** Passes connections on to a port. */
class Forwarder implements Disposable {
  /** Where new connections go. */
  target: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.target = target;
    server.on('connection', (client) => this.#pass(client));
  }

  static async start(target: number): Promise<Forwarder> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Forwarder(server, target);
  }

  get port(): number {
    const address = this.#server.address();
    return address === null || typeof address === 'string' ? 0 : address.port;
  }

  async stop(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    await once(this.#server, 'close');
  }

  #pass(client: Socket): void {
    const gateway = connect(this.target, '127.0.0.1');
    for (const [from, to] of [
      [client, gateway],
      [gateway, client],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => {}); // the close event follows
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }
}
