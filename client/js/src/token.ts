/** How long before its end a token is renewed, if it is good for at least twice as long. */
const marginMs = 60_000;

/**
 * Returns how long to wait before a JSON Web Token is renewed, in milliseconds; undefined if it is none, names no expiry
 * (RFC 7519 §4.1.4), or has expired. The token is not verified: that is the server's business.
 */
export function renewalDelay(token: string, nowMs: number): number | undefined {
  const payload = token.split('.')[1];
  if (payload === undefined) {
    return undefined;
  }
  let claims: unknown;
  try {
    claims = JSON.parse(atob(payload.replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    return undefined;
  }
  if (typeof claims !== 'object' || claims === null || !('exp' in claims) || typeof claims.exp !== 'number') {
    return undefined;
  }
  const remaining = claims.exp * 1000 - nowMs;
  return remaining > 0 ? remaining - Math.min(marginMs, remaining / 2) : undefined;
}
