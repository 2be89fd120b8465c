/**
 * Result codes of the server. The hundreds say what to do: 2xx done; 3xx log in differently, or not at all; 4xx this
 * client has a bug and must not repeat the frame as it is; 5xx try again later; 6xx a limit, slow down. A newer server may
 * send others, so codes are read as numbers.
 */
export const Code = {
  /** Done; of a message: stored. */
  OK: 200,
  /** Taken and not stored: it goes to whoever is connected now. */
  Accepted: 201,

  LoginRequired: 300,
  InvalidToken: 301,
  TokenExpired: 302,
  WrongSender: 303,
  /** The device logged in elsewhere. */
  Replaced: 304,
  /** The session or its token was revoked. */
  Revoked: 305,
  Forbidden: 306,

  Malformed: 400,
  BadField: 402,
  UnknownType: 404,
  NotAllowed: 405,
  BadMessage: 406,
  Idle: 408,
  /** What is to be created exists. */
  Conflict: 409,
  /** There is no such group. */
  NotFound: 410,

  Unavailable: 500,
  StoreFull: 501,
  Draining: 502,
  Internal: 503,

  FrameTooLarge: 600,
  TooManyFrames: 601,
  TooManyConns: 602,
  SlowConsumer: 603,
  /** The recipient's mailbox is full, to a large part of this sender's messages. */
  MailboxFull: 604,
  UserLimit: 605,
  AddressLimit: 606,
  /** More users, or bytes times users, than one request may have. */
  TooMuch: 607,
} as const;

const closeBase = 4000;

/** Tells whether a code reports success. */
export function isSuccess(code: number): boolean {
  return code >= 200 && code < 300;
}

/** Tells whether the same request may succeed later. */
export function isRetryable(code: number): boolean {
  return code >= 500 && code < 700;
}

/** Returns the code of which a WebSocket close code tells, undefined of one that is not the server's. */
export function codeOfClose(closeCode: number): number | undefined {
  return closeCode > closeBase && closeCode < closeBase + 1000 ? closeCode - closeBase : undefined;
}

/**
 * Tells whether connecting again by itself would be wrong after the server ended a session, or refused a login, with a
 * code: the token is no good, somebody else has taken the device over, or this client has a bug. An expired token is not
 * among them, because a token provider has a fresh one.
 */
export function endsSession(code: number): boolean {
  return finalCodes.has(code) || (code >= Code.Malformed && code <= Code.BadMessage);
}

const finalCodes: ReadonlySet<number> = new Set([
  Code.InvalidToken,
  Code.WrongSender,
  Code.Replaced,
  Code.Revoked,
  Code.Forbidden,
]);

/**
 * Tells whether a refused message is worth sending again by itself. Refusals that time alone does not heal are for the
 * caller to judge: a mailbox that is full, a request that is too large.
 */
export function isWorthRepeating(code: number): boolean {
  return repeatable.has(code);
}

const repeatable: ReadonlySet<number> = new Set([
  Code.Unavailable,
  Code.StoreFull,
  Code.Draining,
  Code.Internal,
  Code.TooManyFrames,
  Code.UserLimit,
  Code.AddressLimit,
]);
