import { HandlerError, OverrunError } from './errors.js';
import type { Message } from './message.js';

/**
 * Remembers which messages were handled, beyond the life of a client: in localStorage or a database. Without it, a message
 * that was handled and not acknowledged before the page was closed is handled again.
 */
export interface Dedupe {
  /** Whether a message was handled. */
  handled(msgId: string): boolean | Promise<boolean>;
  /** Remembers that it was, before it is acknowledged. */
  setHandled(msgId: string): void | Promise<void>;
}

/** What an inbox is made with. */
export interface InboxConfig {
  handle: (message: Message) => unknown;
  dedupe: Dedupe | undefined;
  /** Whether a message is acknowledged when its handler has succeeded. */
  autoAck: boolean;
  acknowledge: (msgId: string) => void;
  /** How many messages may wait for the handler. */
  maxWaiting: number;
  onError: (error: HandlerError) => void;
}

/**
 * How many ids of messages are remembered. The server sends at most 500 messages again, those that it has not seen
 * acknowledged; the others leave room for broadcasts and for several connections in a row.
 */
const maxRemembered = 4_096;

/** What became of a message. */
type Progress = 'waiting' | 'handled' | 'acknowledged';

/** Hands messages to the handler: one after the other, in the order in which they came, and each once. */
export class Inbox {
  readonly #config: InboxConfig;
  /** Messages that came, those that were seen last behind. */
  readonly #seen = new Map<string, Progress>();
  readonly #waiting: Message[] = [];
  #running = false;
  #closed = false;
  #onRoom: (() => void) | undefined;

  constructor(config: InboxConfig) {
    this.#config = config;
  }

  /**
   * Takes a message. One that was acknowledged before is acknowledged again, because the server lost that; one that was
   * not is left alone. Throws an OverrunError, and takes nothing, when too many wait.
   */
  receive(message: Message): void {
    if (this.#closed) {
      return;
    }
    const progress = this.#seen.get(message.id);
    if (progress !== undefined) {
      this.#remember(message.id, progress);
      if (progress === 'acknowledged') {
        this.#config.acknowledge(message.id);
      }
      return;
    }
    if (this.#waiting.length >= this.#config.maxWaiting) {
      throw new OverrunError(this.#waiting.length);
    }
    this.#remember(message.id, 'waiting');
    this.#waiting.push(message);
    if (!this.#running) {
      this.#running = true;
      queueMicrotask(() => this.#run());
    }
  }

  /** Notes that a message was acknowledged. */
  acknowledged(msgId: string): void {
    if (this.#seen.has(msgId)) {
      this.#remember(msgId, 'acknowledged');
    }
  }

  /** Has a message handled again when it comes again. */
  giveBack(msgId: string): void {
    if (this.#seen.get(msgId) === 'handled') {
      this.#seen.delete(msgId);
    }
  }

  /** Calls back when half of the places are free, which may be at once. Replaces the callback before. */
  whenRoom(callback: () => void): void {
    this.#onRoom = callback;
    this.#checkRoom();
  }

  /** Hands out nothing any more. What is being handled is acknowledged yet, if there is the time. */
  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    this.#onRoom = undefined;
  }

  async #run(): Promise<void> {
    for (let message = this.#waiting.shift(); message !== undefined; message = this.#waiting.shift()) {
      this.#checkRoom();
      try {
        await this.#handOut(message);
        this.#handled(message);
      } catch (error) {
        this.#seen.delete(message.id); // it comes again, and has to be handled then
        this.#config.onError(new HandlerError(message, error));
      }
    }
    this.#running = false;
  }

  async #handOut(message: Message): Promise<void> {
    const { dedupe, handle } = this.#config;
    if (await dedupe?.handled(message.id)) {
      return;
    }
    await handle(message);
    await dedupe?.setHandled(message.id);
  }

  #handled(message: Message): void {
    const ack = this.#config.autoAck && message.kind !== 'broadcast'; // broadcasts are not stored
    if (this.#seen.get(message.id) === 'waiting') {
      this.#remember(message.id, ack ? 'acknowledged' : 'handled');
    }
    if (ack) {
      this.#config.acknowledge(message.id);
    }
  }

  #checkRoom(): void {
    if (this.#waiting.length <= this.#config.maxWaiting / 2) {
      const callback = this.#onRoom;
      this.#onRoom = undefined;
      callback?.();
    }
  }

  /** Puts an id behind all others, and forgets the oldest when there are too many. */
  #remember(id: string, progress: Progress): void {
    this.#seen.delete(id);
    this.#seen.set(id, progress);
    if (this.#seen.size > maxRemembered + this.#config.maxWaiting) {
      const [oldest] = this.#seen.keys();
      this.#seen.delete(oldest ?? '');
    }
  }
}
