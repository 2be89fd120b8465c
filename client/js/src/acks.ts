import { type Backoff, backoffDelay } from './backoff.js';
import { Code, isSuccess, isWorthRepeating } from './codes.js';
import type { Environment } from './environment.js';
import { ServerError, TooManyWaitingError } from './errors.js';
import { type Frame, FrameType } from './frames.js';

/** How many acknowledgements may be under way; see the window of the outbox. */
const maxWindow = 64;
/** How many may wait. The server has 500 messages at most under way to a device. */
const maxWaiting = 4_096;

interface Entry {
  sent: boolean;
  settle: (error?: Error) => void;
  answer: Promise<void>;
}

/**
 * The acknowledgements that the server has not confirmed, in the order in which they were given. They outlive a
 * connection: so a message that was handled while the network was gone does not have to come again.
 */
export class Acks {
  readonly #backoff: Backoff;
  readonly #environment: Environment;
  readonly #entries = new Map<string, Entry>();
  #underWay = 0;
  #failures = 0;
  #pausedUntil = 0;
  #transmit: ((frame: Frame) => void) | undefined;
  #onIdle = () => {};
  #closed: Error | undefined;
  #cancelWake = () => {};

  constructor(backoff: Backoff, environment: Environment) {
    this.#backoff = backoff;
    this.#environment = environment;
  }

  /** Acknowledges a message. Resolves when the server has confirmed it. */
  add(msgId: string): Promise<void> {
    if (this.#closed !== undefined) {
      return Promise.reject(this.#closed);
    }
    const known = this.#entries.get(msgId);
    if (known !== undefined) {
      return known.answer;
    }
    this.#makeRoom();
    let settle: Entry['settle'] = () => {};
    const answer = new Promise<void>((resolve, reject) => {
      settle = (error) => {
        this.#remove(msgId);
        if (error === undefined) {
          resolve();
        } else {
          reject(error);
        }
      };
    });
    this.#entries.set(msgId, { sent: false, settle, answer });
    this.#pump();
    return answer;
  }

  /** Sends what is not confirmed over a new connection. */
  connected(transmit: (frame: Frame) => void): void {
    this.disconnected();
    this.#transmit = transmit;
    this.#pausedUntil = 0;
    this.#pump();
  }

  /** Keeps what is not confirmed until there is a connection again. */
  disconnected(): void {
    this.#transmit = undefined;
    this.#cancelWake();
    this.#underWay = 0;
    for (const entry of this.#entries.values()) {
      entry.sent = false;
    }
    this.#checkIdle();
  }

  /** Takes an answer. Returns whether an acknowledgement waited for it. */
  answer(frame: Frame): boolean {
    const entry = this.#entries.get(frame.msgId ?? '');
    if (entry === undefined) {
      return false;
    }
    const code = frame.code ?? Code.Internal;
    if (isSuccess(code)) {
      this.#failures = 0;
      entry.settle();
    } else if (isWorthRepeating(code)) {
      this.#postpone(entry, frame.delayMs);
    } else {
      entry.settle(ServerError.of(frame));
    }
    return true;
  }

  /** Resolves when everything is confirmed, or there is no connection to confirm it over, or the time is up. */
  idle(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#environment.after(timeoutMs, resolve);
      this.#onIdle = () => {
        cancel();
        resolve();
      };
      this.#checkIdle();
    });
  }

  /** Fails everything that waits. */
  close(reason: Error): void {
    this.#closed = reason;
    this.disconnected();
    for (const entry of [...this.#entries.values()]) {
      entry.settle(reason);
    }
  }

  /** Gives the oldest up when there are too many: the server sends that message again, and then it is acknowledged. */
  #makeRoom(): void {
    if (this.#entries.size >= maxWaiting) {
      const [oldest] = this.#entries.values();
      oldest?.settle(new TooManyWaitingError(`${maxWaiting} acknowledgements wait for the server already`));
    }
  }

  #postpone(entry: Entry, delayMs: number | undefined): void {
    if (entry.sent) {
      entry.sent = false;
      this.#underWay--;
    }
    const delay = delayMs ?? backoffDelay(this.#backoff, this.#failures++, this.#environment);
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#environment.now() + delay);
    this.#pump();
  }

  #remove(msgId: string): void {
    const entry = this.#entries.get(msgId);
    if (entry !== undefined && this.#entries.delete(msgId)) {
      if (entry.sent) {
        this.#underWay--;
      }
      this.#checkIdle();
      this.#pump();
    }
  }

  #checkIdle(): void {
    if (this.#entries.size === 0 || this.#transmit === undefined) {
      this.#onIdle();
    }
  }

  #pump(): void {
    this.#cancelWake();
    const wait = this.#pausedUntil - this.#environment.now();
    if (wait > 0 && this.#transmit !== undefined) {
      this.#cancelWake = this.#environment.after(wait, () => this.#pump());
      return;
    }
    for (const [msgId, entry] of this.#entries) {
      if (this.#transmit === undefined || this.#underWay >= maxWindow) {
        return; // a connection, or an answer, brings us back
      }
      if (!entry.sent) {
        entry.sent = true;
        this.#underWay++;
        this.#transmit({ type: FrameType.Ack, msgId });
      }
    }
  }
}
