/** Whether a user is online. `unknown` is not offline: the reason says what it is. */
export type PresenceState = 'online' | 'offline' | 'unknown';

/** An online device of a user. */
export interface Device {
  readonly id: string;
  readonly platform?: string;
  /** The pod that the device is connected to. */
  readonly gateway: string;
  /** RFC 3339. */
  readonly loginTime: string;
}

/** What the service knows of a user. */
export interface UserPresence {
  readonly user: string;
  readonly state: PresenceState;
  /** Only if the state is unknown: never_seen, or unavailable when the service could not find out now. */
  readonly reason?: 'never_seen' | 'unavailable';
  /** When an offline user's last session ended; RFC 3339. */
  readonly lastSeen?: string;
  /** Those online. */
  readonly devices: readonly Device[];
}

/** How far an answer can be believed. */
export interface Freshness {
  /** When it was true; RFC 3339. */
  readonly asOf: string;
  /** Whether something could not be read: users may be missing from lists and counts, and answers may be unknown. */
  readonly degraded: boolean;
}

/** How many are online. */
export interface OnlineCount extends Freshness {
  /** Each user once. */
  readonly users: number;
  /** Each device. */
  readonly sessions: number;
  readonly gateways: readonly { readonly pod: string; readonly sessions: number }[];
}

/** A part of the list of online users. */
export interface OnlinePage extends Freshness {
  readonly users: readonly string[];
  /** Asks for the next page; absent after the last one. */
  readonly nextCursor?: string;
}

/** How to reach the presence service. */
export interface PresenceOptions {
  /** Scheme, host and port, such as http://chat-presence. */
  url: string;
  /** The API key. It opens everything: keep it on your servers, and out of pages. */
  apiKey: string;
  /** Sends the requests, instead of the global fetch. */
  fetch?: typeof fetch;
}

/** What every request may be given. */
export interface RequestOptions {
  signal?: AbortSignal;
}

/** An answer other than 200. */
export class PresenceError extends Error {
  override readonly name = 'PresenceError';
  constructor(
    /** HTTP status. */
    readonly status: number,
    /** For programs, such as too_many_users; empty if the answer is not the service's. */
    readonly code: string,
    message: string,
    /** How long to wait before trying again, in milliseconds, if the service said so. */
    readonly retryAfterMs: number | undefined,
  ) {
    super(`presence answered ${status} ${code}${code && ': '}${message}`);
  }
}

const usersPerPage = 1_000;

/** Asks the query service who is online. It keeps no state. */
export class Presence {
  readonly #url: string;
  readonly #apiKey: string;
  readonly #fetch: typeof fetch;

  constructor(options: PresenceOptions) {
    this.#url = options.url.replace(/\/+$/, '');
    this.#apiKey = options.apiKey;
    const { fetch: given = fetch } = options;
    this.#fetch = (input, init) => given(input, init); // browsers do not let it be a method of something else
  }

  /** Asks for one user. */
  get(user: string, options?: RequestOptions): Promise<UserPresence & Freshness> {
    return this.#call(`/v1/presence/${segment(user)}`, undefined, options);
  }

  /** Asks for up to 5,000 users. The answers come in the order of the request, one for each. */
  batchGet(
    users: readonly string[],
    options?: RequestOptions,
  ): Promise<Freshness & { readonly users: readonly UserPresence[] }> {
    return this.#call('/v1/presence:batchGet', { users }, options);
  }

  /** Returns up to limit online users (at most 1,000; default 100), from a cursor on, or from the start. */
  onlinePage(page: { cursor?: string; limit?: number } = {}, options?: RequestOptions): Promise<OnlinePage> {
    const query = new URLSearchParams();
    if (page.cursor) {
      query.set('cursor', page.cursor);
    }
    if (page.limit !== undefined) {
      query.set('limit', String(page.limit));
    }
    return this.#call(`/v1/online${query.size > 0 ? `?${query}` : ''}`, undefined, options);
  }

  /** Yields all online users, page by page. Who comes or goes meanwhile may be among them or not. */
  async *online(options?: RequestOptions): AsyncGenerator<string, void, void> {
    let cursor: string | undefined;
    do {
      const page: OnlinePage = await this.onlinePage({ limit: usersPerPage, ...(cursor && { cursor }) }, options);
      yield* page.users;
      cursor = page.nextCursor;
    } while (cursor);
  }

  /** Counts who is online. */
  count(options?: RequestOptions): Promise<OnlineCount> {
    return this.#call('/v1/online/count', undefined, options);
  }

  async #call<Answer>(path: string, body: unknown, options: RequestOptions | undefined): Promise<Answer> {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#apiKey}` };
    const init: RequestInit = { headers };
    if (body !== undefined) {
      init.method = 'POST';
      init.body = JSON.stringify(body);
      headers['Content-Type'] = 'application/json';
    }
    if (options?.signal !== undefined) {
      init.signal = options.signal;
    }
    const response = await this.#fetch(this.#url + path, init);
    if (response.status !== 200) {
      throw await errorOf(response);
    }
    return (await response.json()) as Answer;
  }
}

/** Encodes a user id as a segment of a path. A user called ".." must not be taken for a step up the path. */
function segment(user: string): string {
  return encodeURIComponent(user).replaceAll('.', '%2E');
}

async function errorOf(response: Response): Promise<PresenceError> {
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : undefined;
  let code = '';
  let message = response.statusText;
  try {
    const body = (await response.json()) as { error?: { code?: unknown; message?: unknown } };
    if (typeof body.error?.code === 'string' && typeof body.error.message === 'string') {
      code = body.error.code;
      message = body.error.message;
    }
  } catch {
    // Not in the words of the service.
  }
  return new PresenceError(response.status, code, message, retryAfterMs);
}
