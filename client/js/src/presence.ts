import type {
  BackEndMessage,
  BackEndReceipt,
  Disconnection,
  Freshness,
  GroupInfo,
  OnlineCount,
  OnlinePage,
  PresenceOptions,
  RequestOptions,
  UserPresence,
} from './presence-types.js';

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
    /** What became of a message that was not stored for everybody: its id to send it again with, and results. */
    readonly receipt: Partial<BackEndReceipt> | undefined,
  ) {
    super(`presence answered ${status} ${code}${code && ': '}${message}`);
  }
}

const usersPerPage = 1_000;

/** What is special about a request. With a body it is a POST. */
interface Request {
  body?: unknown;
  method?: 'DELETE' | undefined;
  key?: string | undefined;
}

/** Asks who is online, and does for back ends what they may do: send, manage groups, disconnect users. It keeps no state. */
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
    return this.#call(`/v1/presence/${segment(user)}`, options);
  }

  /** Asks for up to 5,000 users. The answers come in the order of the request, one for each. */
  batchGet(
    users: readonly string[],
    options?: RequestOptions,
  ): Promise<Freshness & { readonly users: readonly UserPresence[] }> {
    return this.#call('/v1/presence:batchGet', options, { body: { users } });
  }

  /** Returns up to limit online users (at most 1,000; default 100), from a cursor on, or from the start. */
  onlinePage(page: { cursor?: string; limit?: number } = {}, options?: RequestOptions): Promise<OnlinePage> {
    return this.#call(`/v1/online${queryOf(page)}`, options);
  }

  /** Yields all online users, page by page. Who comes or goes meanwhile may be among them or not. */
  online(options?: RequestOptions): AsyncGenerator<string, void, void> {
    return this.#pages('/v1/online', options);
  }

  /** Counts who is online. */
  count(options?: RequestOptions): Promise<OnlineCount> {
    return this.#call('/v1/online/count', options);
  }

  /**
   * Sends a message. It is stored for everybody whom it is for when this resolves (one to everyone: handed to at least one
   * gateway). After an error with status 503 or 429, or none at all, send it again with the same id: that does no harm, and
   * finishes what was not done.
   */
  send(message: BackEndMessage, options?: RequestOptions): Promise<BackEndReceipt> {
    return this.#call('/v1/messages', options, { body: message });
  }

  /** Makes a group. With a key it can be repeated: the same key makes it once. The error's code may be group_exists. */
  createGroup(
    group: string,
    { key, ...about }: { owner?: string; members?: readonly string[]; key?: string } = {},
    options?: RequestOptions,
  ): Promise<GroupInfo> {
    return this.#call('/v1/groups', options, { body: { group, ...about }, key });
  }

  /** Describes a group. The error's code is group_not_found if there is none. */
  group(group: string, options?: RequestOptions): Promise<GroupInfo> {
    return this.#call(`/v1/groups/${segment(group)}`, options);
  }

  /** Deletes a group. Messages that were sent to it stay due. */
  async deleteGroup(group: string, options?: RequestOptions): Promise<void> {
    await this.#call(`/v1/groups/${segment(group)}`, options, { method: 'DELETE' });
  }

  /** Adds up to 2,000 users to a group, all or none. */
  addGroupMembers(group: string, users: readonly string[], options?: RequestOptions): Promise<GroupInfo> {
    return this.#call(`/v1/groups/${segment(group)}/members:add`, options, { body: { users } });
  }

  /** Removes users from a group. Who is no member is passed over. */
  removeGroupMembers(group: string, users: readonly string[], options?: RequestOptions): Promise<GroupInfo> {
    return this.#call(`/v1/groups/${segment(group)}/members:remove`, options, { body: { users } });
  }

  /** Yields the members of a group, page by page. */
  groupMembers(group: string, options?: RequestOptions): AsyncGenerator<string, void, void> {
    return this.#pages(`/v1/groups/${segment(group)}/members`, options);
  }

  /** Ends sessions of a user on every gateway within a second, and has their tokens refused. */
  async disconnect(user: string, which: Disconnection = {}, options?: RequestOptions): Promise<void> {
    await this.#call(`/v1/users/${segment(user)}/disconnect`, options, { body: which });
  }

  /** Has no token of a user refused any more. */
  async reinstate(user: string, options?: RequestOptions): Promise<void> {
    await this.#call(`/v1/users/${segment(user)}/disconnect`, options, { method: 'DELETE' });
  }

  async *#pages(path: string, options: RequestOptions | undefined): AsyncGenerator<string, void, void> {
    let cursor: string | undefined;
    do {
      const query = queryOf({ cursor, limit: usersPerPage });
      const page: Pick<OnlinePage, 'users' | 'nextCursor'> = await this.#call(path + query, options);
      yield* page.users;
      cursor = page.nextCursor;
    } while (cursor);
  }

  async #call<Answer>(path: string, options: RequestOptions | undefined, request: Request = {}): Promise<Answer> {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#apiKey}` };
    const init: RequestInit = { headers };
    if (request.body !== undefined) {
      init.method = 'POST';
      init.body = JSON.stringify(request.body);
      headers['Content-Type'] = 'application/json';
    }
    if (request.method !== undefined) {
      init.method = request.method;
    }
    if (request.key !== undefined) {
      headers['Idempotency-Key'] = request.key;
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

function queryOf({ cursor, limit }: { cursor?: string | undefined; limit?: number | undefined }): string {
  const query = new URLSearchParams();
  if (cursor) {
    query.set('cursor', cursor);
  }
  if (limit !== undefined) {
    query.set('limit', String(limit));
  }
  const text = query.toString();
  return text && `?${text}`;
}

/** Encodes an id as a segment of a path. A user called ".." must not be taken for a step up the path. */
function segment(user: string): string {
  return encodeURIComponent(user).replaceAll('.', '%2E');
}

async function errorOf(response: Response): Promise<PresenceError> {
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : undefined;
  let code = '';
  let message = response.statusText;
  let receipt: Partial<BackEndReceipt> | undefined;
  try {
    const body = (await response.json()) as Partial<BackEndReceipt> & { error?: { code?: unknown; message?: unknown } };
    if (typeof body.id === 'string') {
      receipt = body;
    }
    if (typeof body.error?.code === 'string' && typeof body.error.message === 'string') {
      code = body.error.code;
      message = body.error.message;
    }
  } catch {
    // Not in the words of the service.
  }
  return new PresenceError(response.status, code, message, retryAfterMs, receipt);
}
