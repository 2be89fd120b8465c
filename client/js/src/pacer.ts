/** How much may be sent a second. */
export interface Rate {
  framesPerSecond: number;
  bytesPerSecond: number;
}

/**
 * Keeps below the limits of the server, which allows as much as this at once and more. What the server refuses because it
 * came too fast may be overtaken by what came after it; what waits here keeps its place.
 */
export class Pacer {
  readonly #frames: Bucket;
  readonly #bytes: Bucket;

  constructor({ framesPerSecond, bytesPerSecond }: Rate, now: number) {
    this.#frames = new Bucket(framesPerSecond, now);
    this.#bytes = new Bucket(bytesPerSecond, now);
  }

  /** Returns in how many milliseconds a frame of a size may be sent; 0 if now. */
  delay(bytes: number, now: number): number {
    return Math.ceil(Math.max(this.#frames.delay(1, now), this.#bytes.delay(bytes, now)));
  }

  /** Counts a frame that is sent. */
  take(bytes: number): void {
    this.#frames.take(1);
    this.#bytes.take(bytes);
  }
}

/** A token bucket that holds what one second allows. */
class Bucket {
  readonly #rate: number;
  #level: number;
  #last: number;

  constructor(rate: number, now: number) {
    this.#rate = rate;
    this.#level = rate;
    this.#last = now;
  }

  /** What is more than the bucket holds may go when it is full. */
  delay(amount: number, now: number): number {
    if (this.#rate === Number.POSITIVE_INFINITY) {
      return 0;
    }
    this.#level = Math.min(this.#rate, this.#level + ((now - this.#last) / 1000) * this.#rate);
    this.#last = now;
    return Math.max(0, ((Math.min(amount, this.#rate) - this.#level) / this.#rate) * 1000);
  }

  take(amount: number): void {
    this.#level -= amount;
  }
}
