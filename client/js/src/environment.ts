/** What the client takes from the world around it. Tests bring their own. */
export interface Environment {
  /** Milliseconds since some moment; not affected by changes of the time of day. */
  now(): number;
  /** Calls back once, after some milliseconds, unless the returned function is called before. */
  after(ms: number, callback: () => void): () => void;
  /** A random number from 0 to less than 1. */
  random(): number;
  /** A text that nobody else has. */
  uniqueId(): string;
  /**
   * Calls back when the network comes or goes, or the page is looked at again, with whether there is a network. Returns
   * how to stop that.
   */
  onWakeup(callback: (network: boolean) => void): () => void;
}

/** The environment of a browser or Node.js. */
export const system: Environment = {
  now: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(ms, maxTimer));
    return () => clearTimeout(timer);
  },
  random: Math.random,
  uniqueId,
  onWakeup,
};

/** Timers of a longer time than 2³¹−1 ms would fire at once. */
const maxTimer = 2 ** 31 - 1;

/** crypto.randomUUID, which browsers have in secure contexts only. */
function uniqueId(): string {
  if (typeof crypto.randomUUID === 'function') {
    return crypto.randomUUID();
  }
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Browsers tell; elsewhere nothing is known. The timers of a page that nobody looks at may have slept for minutes. */
function onWakeup(callback: (network: boolean) => void): () => void {
  if (typeof window === 'undefined' || typeof document === 'undefined') {
    return () => {};
  }
  const wake = () => {
    if (document.visibilityState === 'visible') {
      callback(navigator.onLine);
    }
  };
  const network = () => callback(navigator.onLine);
  window.addEventListener('online', network);
  window.addEventListener('offline', network);
  window.addEventListener('pageshow', wake);
  document.addEventListener('visibilitychange', wake);
  return () => {
    window.removeEventListener('online', network);
    window.removeEventListener('offline', network);
    window.removeEventListener('pageshow', wake);
    document.removeEventListener('visibilitychange', wake);
  };
}
