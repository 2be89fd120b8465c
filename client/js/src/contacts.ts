import type { Environment } from './environment.js';
import { ConnectionLostError, ServerError, TimeoutError } from './errors.js';
import { type Frame, FrameType, type PresenceFields, SubscriptionAction } from './frames.js';

/** What a user shows to others while online. Who is invisible looks offline to everybody. */
export type Status = 'online' | 'away' | 'busy' | 'invisible';

/** How another user is, as far as this one may know. */
export interface Contact {
  readonly user: string;
  /** `unknown` is not offline: the reason says what it is. */
  readonly state: 'online' | 'offline' | 'unknown';
  /** If unknown: never_seen, or unavailable when the server cannot find out now. */
  readonly reason?: string;
  /** If online. */
  readonly status?: Exclude<Status, 'invisible'>;
  /** The user's own words beside the status, if online. */
  readonly text?: string;
  /** If offline: when the last device went. */
  readonly lastSeen?: Date;
  /** What the devices that are online call themselves, each once. */
  readonly platforms: readonly string[];
}

/** Answers about users. */
export interface ContactList {
  /** In the order of the question. */
  readonly contacts: readonly Contact[];
  /** When it was true. */
  readonly asOf: Date;
  /** Whether something could not be found out. */
  readonly degraded: boolean;
}

/** @internal */
export interface ContactsConfig {
  /** Sends a request, as soon as there is a connection, and returns the answer. */
  call(frame: Frame): Promise<Frame>;
  onChange(changes: Contact[]): void;
  onError(error: Error): void;
  environment: Environment;
  /** How long a change of the list waits for a connection. */
  timeoutMs: number;
}

/** About how many bytes of ids one frame names: servers take frames of 64 KiB unless set otherwise. */
const partBytes = 16 * 1024;
/** The pause before the list is given to a connection again, if the server names none. */
const retryMs = 1_000;

/**
 * Asks how users are, and keeps a list of those whom the client is told about when they change: see the event `presence`. The
 * server allows 1,000 of them unless it is set up otherwise; going beyond that is a ServerError with Code.TooMuch, and changes
 * nothing. The list outlives connections: when the client has logged in again, the event tells what is different by then, and
 * nothing else.
 */
export class Contacts {
  readonly #config: ContactsConfig;
  /** Who is on the list; undefined: it is not known yet how they are. */
  readonly #list = new Map<string, Contact | undefined>();
  /** Who is being put on it. */
  #coming = new Map<string, Contact | undefined>();
  /** One change is under way at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Counts connections; those who wait for one. */
  #connection = 0;
  #connected = false;
  #waiting = new Set<(error?: Error) => void>();
  /** The connection that has the list. */
  #listed = 0;
  #ended: Error | undefined;

  /** @internal */
  constructor(config: ContactsConfig) {
    this.#config = config;
  }

  /** How those on the list are, as far as is known; while there is no connection, how they were. */
  get list(): ReadonlyMap<string, Contact> {
    const known = new Map<string, Contact>();
    for (const [user, contact] of this.#list) {
      known.set(user, contact ?? unavailable(user));
    }
    return known;
  }

  /** Asks once how users are. */
  async query(users: readonly string[]): Promise<ContactList> {
    const answer = await this.#config.call({ type: FrameType.PresenceQuery, users: [...users] });
    return {
      contacts: (answer.presence ?? []).map(contactOf),
      asOf: new Date(answer.asOf ?? 0),
      degraded: answer.degraded ?? false,
    };
  }

  /** Puts users on the list, and returns how they are, each once. */
  subscribe(users: readonly string[]): Promise<Contact[]> {
    return this.#change(SubscriptionAction.Subscribe, users);
  }

  /** Takes users off the list. */
  async unsubscribe(users: readonly string[]): Promise<void> {
    await this.#change(SubscriptionAction.Unsubscribe, users);
  }

  /** Makes users the list, and returns how they are, each once. */
  replace(users: readonly string[]): Promise<Contact[]> {
    return this.#change(SubscriptionAction.Replace, users);
  }

  /** @internal */
  connected(): void {
    this.#connection++;
    this.#connected = true;
    this.#wake();
    if (this.#list.size > 0) {
      this.#restore();
    } else {
      this.#listed = this.#connection;
    }
  }

  /** @internal */
  disconnected(): void {
    this.#connected = false;
  }

  /** @internal */
  close(error: Error): void {
    this.#ended = error;
    this.#wake(error);
  }

  /** Takes over how users are, by an answer or an event, in the order in which they come. @internal */
  told(frame: Frame): void {
    const changes: Contact[] = [];
    for (const fields of frame.presence ?? []) {
      const now = contactOf(fields);
      const listed = this.#list.has(now.user);
      const coming = this.#coming.has(now.user);
      const known = this.#list.get(now.user) ?? this.#coming.get(now.user);
      // Whoever cannot be asked after has not changed.
      if ((!listed && !coming) || (known && (isSame(known, now) || isUnavailable(now)))) {
        continue;
      }
      if (listed) {
        this.#list.set(now.user, now);
      }
      if (coming) {
        this.#coming.set(now.user, now);
      }
      if (known) {
        changes.push(now);
      }
    }
    if (changes.length > 0) {
      this.#config.onChange(changes);
    }
  }

  /** Gives a new connection the list, as often as it takes. */
  #restore(): void {
    const connection = this.#connection;
    this.#inTurn(() => this.#give()).catch((error: unknown) => {
      if (this.#ended || connection !== this.#connection || error instanceof ConnectionLostError) {
        return;
      }
      if (error instanceof ServerError && !error.retryable) {
        this.#config.onError(error);
        return;
      }
      const delay = (error instanceof ServerError && error.delayMs) || retryMs;
      this.#config.environment.after(delay, () => {
        if (!this.#ended && connection === this.#connection && this.#connected) {
          this.#restore();
        }
      });
    });
  }

  #change(action: string, users: readonly string[]): Promise<Contact[]> {
    const wanted = [...new Set(users)];
    return this.#inTurn(async () => {
      for (;;) {
        await this.#online();
        try {
          return await this.#tryChange(action, wanted);
        } catch (error) {
          if (!(error instanceof ConnectionLostError)) {
            throw error;
          }
        }
      }
    });
  }

  /** Changes the list on the present connection, which is given the whole one first if it does not have it. */
  async #tryChange(action: string, users: readonly string[]): Promise<Contact[]> {
    await this.#give();
    this.#coming = new Map(users.map((user) => [user, this.#list.get(user)]));
    try {
      await this.#send(action, users);
    } catch (error) {
      if (!(error instanceof ServerError) || partsOf(users).length > 1) {
        this.#listed = 0; // nobody knows what was done of it
      }
      this.#coming = new Map();
      throw error;
    }
    const coming = this.#coming;
    this.#coming = new Map();
    if (action === SubscriptionAction.Unsubscribe) {
      for (const user of users) {
        this.#list.delete(user);
      }
      return [];
    }
    if (action === SubscriptionAction.Replace) {
      this.#list.clear();
    }
    for (const [user, contact] of coming) {
      this.#list.set(user, contact);
    }
    return [...coming].map(([user, contact]) => contact ?? unavailable(user));
  }

  /** Gives the present connection the list, unless it has it. */
  async #give(): Promise<void> {
    const connection = this.#connection;
    if (this.#listed !== connection) {
      await this.#send(SubscriptionAction.Replace, [...this.#list.keys()]);
      if (connection === this.#connection) {
        this.#listed = connection;
      }
    }
  }

  /** Sends a change, in parts if it is long. */
  async #send(action: string, users: readonly string[]): Promise<void> {
    const connection = this.#connection;
    for (const [i, part] of partsOf(users).entries()) {
      if (!this.#connected || connection !== this.#connection) {
        throw new ConnectionLostError('the connection ended');
      }
      const next = i > 0 && action === SubscriptionAction.Replace ? SubscriptionAction.Subscribe : action;
      await this.#config.call({ type: FrameType.Subscribe, action: next, users: part });
    }
  }

  #inTurn<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(task);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Waits for a connection. */
  #online(): Promise<void> {
    if (this.#ended) {
      return Promise.reject(this.#ended);
    }
    if (this.#connected) {
      return Promise.resolve();
    }
    const { environment, timeoutMs } = this.#config;
    return new Promise((resolve, reject) => {
      const settle = (error?: Error) => {
        cancel();
        this.#waiting.delete(settle);
        if (error) {
          reject(error);
        } else {
          resolve();
        }
      };
      const cancel = environment.after(timeoutMs, () => settle(new TimeoutError('request', timeoutMs)));
      this.#waiting.add(settle);
    });
  }

  #wake(error?: Error): void {
    for (const settle of [...this.#waiting]) {
      settle(error);
    }
  }
}

/** Splits a list; an empty one has one part. */
function partsOf(users: readonly string[]): string[][] {
  const parts: string[][] = [[]];
  let size = 0;
  for (const user of users) {
    const bytes = 3 * user.length + 3;
    if (size > 0 && size + bytes > partBytes) {
      parts.push([]);
      size = 0;
    }
    parts.at(-1)?.push(user);
    size += bytes;
  }
  return parts;
}

function contactOf(fields: PresenceFields): Contact {
  const { userId, state, reason, status, text, lastSeen, platforms } = fields;
  return {
    user: userId,
    state: state === 'online' || state === 'offline' ? state : 'unknown',
    ...(reason === undefined ? {} : { reason }),
    ...(status === undefined ? {} : { status: status as Exclude<Status, 'invisible'> }),
    ...(text === undefined ? {} : { text }),
    ...(lastSeen === undefined ? {} : { lastSeen: new Date(lastSeen) }),
    platforms: platforms ?? [],
  };
}

function unavailable(user: string): Contact {
  return { user, state: 'unknown', reason: 'unavailable', platforms: [] };
}

function isUnavailable(contact: Contact): boolean {
  return contact.state === 'unknown' && contact.reason !== 'never_seen';
}

function isSame(a: Contact, b: Contact): boolean {
  return (
    a.state === b.state &&
    a.reason === b.reason &&
    a.status === b.status &&
    a.text === b.text &&
    a.lastSeen?.getTime() === b.lastSeen?.getTime() &&
    a.platforms.join() === b.platforms.join()
  );
}
