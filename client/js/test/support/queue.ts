/** Values that somebody waits for, in their order. */
export class Queue<Value> {
  readonly #values: Value[] = [];
  readonly #takers: ((value: Value) => void)[] = [];

  /** Adds a value. */
  push(value: Value): void {
    const taker = this.#takers.shift();
    if (taker === undefined) {
      this.#values.push(value);
    } else {
      taker(value);
    }
  }

  /** Returns the next value, as soon as there is one. The timeout of the test bounds how long that may take. */
  next(): Promise<Value> {
    const value = this.#values.shift();
    return value === undefined ? new Promise((resolve) => this.#takers.push(resolve)) : Promise.resolve(value);
  }

  /** How many values wait. */
  get size(): number {
    return this.#values.length;
  }
}
