import type { Environment } from './environment.js';

/** When to try again. */
export interface Backoff {
  /** The least delay in milliseconds. */
  minMs: number;
  /** The greatest delay in milliseconds. */
  maxMs: number;
}

/**
 * Returns the delay before the next attempt, after some failures in a row: evenly spread between the least delay and a
 * bound that doubles with each failure, so that clients which lost the same gateway do not come back together.
 */
export function backoffDelay(backoff: Backoff, failures: number, environment: Pick<Environment, 'random'>): number {
  const bound = Math.min(backoff.maxMs, backoff.minMs * 2 ** Math.min(failures + 1, 30));
  return backoff.minMs + environment.random() * Math.max(0, bound - backoff.minMs);
}
