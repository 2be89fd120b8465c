import { type Backoff, backoffDelay } from './backoff.js';
import { Code, isSuccess, isWorthRepeating } from './codes.js';
import type { Environment } from './environment.js';
import { ServerError, TimeoutError, TooManyWaitingError } from './errors.js';
import { encodeFrame, type Frame } from './frames.js';
import { Pacer, type Rate } from './pacer.js';

/** Bounds of what waits for the server. */
export interface OutboxLimits extends Rate {
  /** Messages that wait, sent or not. */
  maxMessages: number;
  /** Bytes of their frames. */
  maxBytes: number;
  /** Bytes of one frame: more than the server takes would cost the connection. */
  maxFrameBytes: number;
}

/**
 * How much may be under way. The server takes 256 messages, but 100 frames and 256 KiB a second by default, and closes a
 * connection when what it had to refuse would have taken 2 s: 64 messages, 128 KiB and 64 acknowledgements take 1.8 s.
 */
const maxWindow = 64;
const maxWindowBytes = 128 * 1024;

interface Entry {
  frame: Frame;
  text: string;
  bytes: number;
  /** Whether it was sent on the present connection and no answer has come. */
  sent: boolean;
  failures: number;
  /** When it may be sent, after a refusal. */
  notBefore: number;
  cancelTimeout: () => void;
  settle: (result: Frame | Error) => void;
}

/**
 * The messages that have no answer yet, in the order in which they were sent. After a reconnect they are sent again, with
 * the same ids: the server tells by these what it has already.
 */
export class Outbox {
  readonly #limits: OutboxLimits;
  readonly #backoff: Backoff;
  readonly #environment: Environment;
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  /** How many may be under way: halved when the server finds us too fast, and more by one with each success. */
  #window = maxWindow;
  #underWay = 0;
  #bytesUnderWay = 0;
  #pausedUntil = 0;
  #pacer: Pacer;
  #transmit: ((text: string) => void) | undefined;
  #cancelWake = () => {};

  constructor(limits: OutboxLimits, backoff: Backoff, environment: Environment) {
    this.#limits = limits;
    this.#backoff = backoff;
    this.#environment = environment;
    this.#pacer = new Pacer(limits, environment.now());
  }

  /** How many messages have no answer yet. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Sends a message as soon as there is a connection. The answer is that of the server; it is an error when it refuses, or
   * when the time is up, or the signal aborts.
   */
  send(frame: Frame & { clientMsgId: string }, timeoutMs: number, signal?: AbortSignal): Promise<Frame> {
    const text = encodeFrame(frame);
    const bytes = new TextEncoder().encode(text).length;
    const key = keyOf(frame.type + 1, frame.clientMsgId);
    return new Promise<Frame>((resolve, reject) => {
      signal?.throwIfAborted();
      this.#admit(key, bytes);
      const onAbort = () => entry.settle(asError(signal?.reason));
      const entry: Entry = {
        frame,
        text,
        bytes,
        sent: false,
        failures: 0,
        notBefore: 0,
        cancelTimeout: this.#environment.after(timeoutMs, () =>
          entry.settle(new TimeoutError('send', timeoutMs, frame.clientMsgId)),
        ),
        settle: (result) => {
          signal?.removeEventListener('abort', onAbort);
          this.#remove(key, entry);
          if (result instanceof Error) {
            reject(result);
          } else {
            resolve(result);
          }
        },
      };
      signal?.addEventListener('abort', onAbort);
      this.#entries.set(key, entry);
      this.#bytes += bytes;
      this.#pump();
    });
  }

  /** Sends what waits over a new connection, everything that has no answer again. */
  connected(transmit: (text: string) => void): void {
    this.disconnected();
    for (const entry of this.#entries.values()) {
      entry.notBefore = 0;
    }
    this.#transmit = transmit;
    this.#window = maxWindow;
    this.#pausedUntil = 0;
    this.#pacer = new Pacer(this.#limits, this.#environment.now());
    this.#pump();
  }

  /** Keeps what waits until there is a connection again. */
  disconnected(): void {
    this.#transmit = undefined;
    this.#cancelWake();
    this.#underWay = 0;
    this.#bytesUnderWay = 0;
    for (const entry of this.#entries.values()) {
      entry.sent = false;
    }
  }

  /** Takes an answer. Returns whether a message waited for it. */
  answer(frame: Frame): boolean {
    const entry = this.#entries.get(keyOf(frame.type, frame.clientMsgId ?? ''));
    if (entry === undefined) {
      return false;
    }
    const code = frame.code ?? Code.Internal;
    if (isSuccess(code)) {
      this.#window = Math.min(this.#window + 1, maxWindow);
      entry.settle(frame);
    } else if (isWorthRepeating(code)) {
      this.#postpone(entry, code, frame.delayMs);
    } else {
      entry.settle(ServerError.of(frame));
    }
    return true;
  }

  /**
   * Gives up the largest message that is under way: the server closes a connection that sends too large a frame and does
   * not say which one it was, and to send it again would cost the next connection as well.
   */
  refuseLargest(reason: ServerError): void {
    let largest: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.sent && entry.bytes > (largest?.bytes ?? 0)) {
        largest = entry;
      }
    }
    largest?.settle(reason);
  }

  /** Fails everything that waits. */
  close(reason: Error): void {
    this.disconnected();
    for (const entry of [...this.#entries.values()]) {
      entry.settle(reason);
    }
  }

  #admit(key: string, bytes: number): void {
    const { maxMessages, maxBytes, maxFrameBytes } = this.#limits;
    if (bytes > maxFrameBytes) {
      throw new ServerError(Code.FrameTooLarge, `the frame has ${bytes} bytes, and may have ${maxFrameBytes}`);
    }
    if (this.#entries.size >= maxMessages || this.#bytes + bytes > maxBytes) {
      throw new TooManyWaitingError(
        `${this.#entries.size} messages (${this.#bytes} bytes) wait for the server already`,
      );
    }
    if (this.#entries.has(key)) {
      throw new TypeError('a message with the same clientMsgId waits for its answer');
    }
  }

  #postpone(entry: Entry, code: number, delayMs: number | undefined): void {
    const now = this.#environment.now();
    this.#arrived(entry);
    const delay = delayMs ?? backoffDelay(this.#backoff, entry.failures, this.#environment);
    entry.failures++;
    entry.notBefore = now + delay;
    // A limit of speed holds for the messages behind it as well; what was under way with it is refused too, and once.
    if (code >= Code.FrameTooLarge) {
      if (now >= this.#pausedUntil) {
        this.#window = Math.max(1, Math.floor(this.#window / 2));
      }
      this.#pausedUntil = Math.max(this.#pausedUntil, entry.notBefore);
    }
    this.#pump();
  }

  #remove(key: string, entry: Entry): void {
    entry.cancelTimeout();
    if (this.#entries.delete(key)) {
      this.#bytes -= entry.bytes;
      this.#arrived(entry);
      this.#pump();
    }
  }

  #arrived(entry: Entry): void {
    if (entry.sent) {
      entry.sent = false;
      this.#underWay--;
      this.#bytesUnderWay -= entry.bytes;
    }
  }

  /** Whether one more may be under way: a single one always may. */
  #hasRoom(entry: Entry): boolean {
    return (
      this.#underWay === 0 || (this.#underWay < this.#window && this.#bytesUnderWay + entry.bytes <= maxWindowBytes)
    );
  }

  /** Sends what may be sent now, and sees to it that it is called again when more may be. */
  #pump(): void {
    this.#cancelWake();
    const now = this.#environment.now();
    let next = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.values()) {
      if (entry.sent) {
        continue;
      }
      if (this.#transmit === undefined || !this.#hasRoom(entry)) {
        return; // a connection, or an answer, brings us back
      }
      const due = Math.max(entry.notBefore, this.#pausedUntil);
      if (due > now) {
        next = Math.min(next, due);
        continue;
      }
      const delay = this.#pacer.delay(entry.bytes, now);
      if (delay > 0) {
        next = now + delay; // what is behind it keeps its place
        break;
      }
      this.#pacer.take(entry.bytes);
      entry.sent = true;
      this.#underWay++;
      this.#bytesUnderWay += entry.bytes;
      this.#transmit(entry.text);
    }
    if (next < Number.POSITIVE_INFINITY) {
      this.#cancelWake = this.#environment.after(next - now, () => this.#pump());
    }
  }
}

function keyOf(answerType: number, clientMsgId: string): string {
  return `${answerType} ${clientMsgId}`;
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
