import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { extname, join } from 'node:path';
import { WebSocket } from 'ws';
import { type Disposable, Program, root, temporaryDirectory } from './process.js';
import { Queue } from './queue.js';

/** An answer or an event of the DevTools protocol. */
interface Packet {
  id?: number;
  method?: string;
  sessionId?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** The answer to Runtime.evaluate. */
interface Evaluation {
  result: { value?: unknown };
  exceptionDetails?: { text: string; exception?: { description?: string } };
}

/**
 * A headless Chromium, driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/), and a web
 * server that serves this package to its pages.
 */
export class Browser implements Disposable {
  readonly #stops: (() => Promise<void>)[];
  readonly #socket: WebSocket;
  readonly #origin: string;
  readonly #answers = new Map<number, (packet: Packet) => void>();
  readonly #pages = new Map<string, Page>();
  #lastId = 0;

  private constructor(stops: (() => Promise<void>)[], socket: WebSocket, origin: string) {
    this.#stops = stops;
    this.#socket = socket;
    this.#origin = origin;
    socket.on('message', (data) => this.#receive(JSON.parse(String(data)) as Packet));
  }

  static async start(): Promise<Browser> {
    const server = await servePackage();
    const profile = await temporaryDirectory();
    const program = new Program(process.env.CHROMIUM ?? 'chromium', [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
      ...['--remote-debugging-port=0', `--user-data-dir=${profile.path}`, 'about:blank'],
    ]);
    const line = await program.line(/DevTools listening on/);
    const socket = new WebSocket(line.slice(line.indexOf('ws://')));
    await once(socket, 'open');
    const stops = [
      () => program.stop(),
      () => profile.stop(),
      async () => {
        server.close();
        server.closeAllConnections();
        await once(server, 'close');
      },
    ];
    const address = server.address();
    const port = address === null || typeof address === 'string' ? 0 : address.port;
    return new Browser(stops, socket, `http://127.0.0.1:${port}`);
  }

  /** Opens a page of this package. Without a path, it is an empty one that has loaded the bundle. */
  async open(path = '/'): Promise<Page> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, String(sessionId), String(targetId));
    this.#pages.set(String(sessionId), page);
    await page.load(this.#origin + path);
    return page;
  }

  /** Sends a command and returns its result. */
  send(method: string, params: object, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, ({ error, result = {} }) => (error ? reject(new Error(error.message)) : resolve(result)));
      this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    });
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops) {
      await stop();
    }
  }

  #receive(packet: Packet): void {
    if (packet.id !== undefined) {
      this.#answers.get(packet.id)?.(packet);
      this.#answers.delete(packet.id);
    } else {
      this.#pages.get(packet.sessionId ?? '')?.events.push(packet.method ?? '');
    }
  }
}

/** A page of a browser. */
export class Page {
  /** The names of the events that it has had. */
  readonly events = new Queue<string>();
  readonly #browser: Browser;
  readonly #sessionId: string;
  readonly #targetId: string;

  constructor(browser: Browser, sessionId: string, targetId: string) {
    this.#browser = browser;
    this.#sessionId = sessionId;
    this.#targetId = targetId;
  }

  /** Goes to a URL, and waits until everything has been loaded. */
  async load(url: string): Promise<void> {
    await this.#send('Page.enable', {});
    await this.#send('Page.navigate', { url });
    while ((await this.events.next()) !== 'Page.loadEventFired') {}
  }

  /**
   * Runs a function in the page and returns what it returns, or resolves to. It knows nothing of the test but its
   * argument.
   */
  async run<Argument, Result>(
    run: (argument: Argument) => Result | Promise<Result>,
    argument: Argument,
  ): Promise<Result> {
    const answer = await this.#send('Runtime.evaluate', {
      expression: `(${run})(${JSON.stringify(argument)})`,
      awaitPromise: true,
      returnByValue: true,
    });
    const { result, exceptionDetails } = answer as unknown as Evaluation;
    if (exceptionDetails !== undefined) {
      throw new Error(`in the page: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    }
    return result.value as Result;
  }

  /** Takes the network away from the page, or gives it back. */
  async setNetwork(there: boolean): Promise<void> {
    await this.#send('Network.enable', {});
    const unlimited = { latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    await this.#send('Network.emulateNetworkConditions', { offline: !there, ...unlimited });
  }

  async close(): Promise<void> {
    await this.#browser.send('Target.closeTarget', { targetId: this.#targetId });
  }

  #send(method: string, params: object): Promise<Record<string, unknown>> {
    return this.#browser.send(method, params, this.#sessionId);
  }
}

const contentTypes: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.map': 'text/plain' };

async function servePackage(): Promise<Server> {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    if (pathname === '/') {
      response.writeHead(200, { 'Content-Type': 'text/html' });
      response.end('<!doctype html><meta charset="utf-8"><script src="/dist/imcluster.global.js"></script>');
      return;
    }
    try {
      const content = await readFile(join(root, 'client/js', pathname));
      response.writeHead(200, { 'Content-Type': contentTypes[extname(pathname)] ?? 'text/plain' });
      response.end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
