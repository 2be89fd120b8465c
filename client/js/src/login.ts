import type { Frame } from './frames.js';

/** What the server said of a login. */
export interface Login {
  readonly userId: string;
  readonly deviceId: string;
  /** Identifies this login, for people who compare logs. */
  readonly sessionId: string;
}

/** Reads the answer to a login. */
export function loginOf(answer: Frame): Login {
  return { userId: answer.userId ?? '', deviceId: answer.deviceId ?? '', sessionId: answer.sessionId ?? '' };
}

/** How long before its end a token is renewed, if it is good for at least twice as long. */
const marginMs = 60_000;

/**
 * Returns how long to wait before the token of a login is renewed, in milliseconds; undefined if it does not expire. Both
 * times of the answer are by the server's clock, so that of this device does not matter.
 */
export function renewalDelay({ expiresAt, time }: Frame): number | undefined {
  if (expiresAt === undefined || time === undefined || expiresAt <= time) {
    return undefined;
  }
  const remaining = expiresAt - time;
  return remaining - Math.min(marginMs, remaining / 2);
}
