import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The root of the repository. */
export const root = fileURLToPath(new URL('../../../../', import.meta.url));

/** What ends a thing that a test has started. */
export interface Disposable {
  stop(): Promise<void>;
}

/** A program that a test has started. */
export class Program implements Disposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #lines: string[] = [];
  readonly #watchers = new Set<() => void>();

  constructor(path: string, args: string[]) {
    this.#child = spawn(path, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#exited = once(this.#child, 'exit');
    process.once('exit', () => this.#child.kill('SIGKILL')); // of a test run that fails
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream !== null) {
        createInterface(stream).on('line', (line) => {
          this.#lines.push(line);
          for (const watcher of this.#watchers) {
            watcher();
          }
        });
      }
    }
  }

  /** Returns the first line that matches. Fails, with all lines, when the program ends before. */
  async line(pattern: RegExp): Promise<string> {
    let watcher = () => {};
    const found = new Promise<string>((resolve) => {
      watcher = () => {
        const line = this.#lines.find((line) => pattern.test(line));
        if (line !== undefined) {
          resolve(line);
        }
      };
      this.#watchers.add(watcher);
      watcher();
    });
    const failed = this.#exited.then(() => {
      throw new Error(`the program ended before it said ${pattern}:\n${this.#lines.join('\n')}`);
    });
    failed.catch(() => {});
    try {
      return await Promise.race([found, failed]);
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** Ends it as a crash does. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** Asks it to end, and waits until it has. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#exited;
  }
}

/** Returns the path of a command of the platform, which `npm run build:platform` has built. */
export function built(command: string): string {
  return join(root, 'client/js/build/bin', command);
}

/** Makes a directory that disappears with what it is for. */
export async function temporaryDirectory(): Promise<Disposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'imcluster-js-'));
  return { path, stop: () => rm(path, { recursive: true, force: true }) };
}

/** Returns a port of 127.0.0.1 that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') {
    throw new Error('no port');
  }
  return address.port;
}
