import type { Environment } from '@imcluster/client';

interface Timer {
  due: number;
  callback: () => void;
}

/** An environment whose time goes on when the test says so, and whose random numbers the test chooses. */
export class Clock implements Environment {
  /** What random returns. */
  chance = 0;
  readonly #timers = new Set<Timer>();
  readonly #wakeups = new Set<(network: boolean) => void>();
  #now = 1_000_000;
  #ids = 0;

  now(): number {
    return this.#now;
  }

  random(): number {
    return this.chance;
  }

  uniqueId(): string {
    this.#ids++;
    return `id-${this.#ids}`;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { due: this.#now + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  onWakeup(callback: (network: boolean) => void): () => void {
    this.#wakeups.add(callback);
    return () => this.#wakeups.delete(callback);
  }

  /** The network came or went, or somebody looks at the page again. */
  wake(network: boolean): void {
    for (const callback of this.#wakeups) {
      callback(network);
    }
  }

  /** Lets time go on, and calls back what is due, in the order of time. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (let next = this.#next(); next !== undefined && next.due <= end; next = this.#next()) {
      this.#now = Math.max(this.#now, next.due);
      this.#timers.delete(next);
      next.callback();
    }
    this.#now = end;
  }

  /** Lets time go on while the program sleeps: what is due in between is called back late, at the end. */
  sleep(ms: number): void {
    this.#now += ms;
    this.advance(0);
  }

  /** How many timers run. */
  get timers(): number {
    return this.#timers.size;
  }

  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (first === undefined || timer.due < first.due) {
        first = timer;
      }
    }
    return first;
  }
}
