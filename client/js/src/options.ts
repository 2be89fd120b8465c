import type { Status } from './contacts.js';
import type { Dedupe } from './inbox.js';
import type { Message } from './message.js';
import type { WebSocketConstructor } from './socket.js';

/** Why a token is asked for. */
export interface TokenRequest {
  /** Whether the server said that the token before has expired. */
  readonly expired: boolean;
}

/**
 * Returns a token that proves who the user is. It is called before every login, so it may return the same one as long as
 * that is good. When it fails, the client tries again as if the connection had failed.
 */
export type TokenProvider = (request: TokenRequest) => string | Promise<string>;

/** How a client connects and behaves. Only url and token are required. */
export interface ClientOptions {
  /**
   * Address of the gateways: wss://host/ws; without a path, /ws is added. Of several, a connection that fails is tried
   * again with the next one.
   */
  url: string | readonly string[];
  /** Proves who the user is. A fixed token is good until it expires; a provider is asked for a fresh one then. */
  token: string | TokenProvider;
  /** Tells the user's devices apart; a second login of the same device replaces the first. Without it: "default". */
  deviceId?: string;
  /** Platform of the device, such as "web": at most 16 characters of a–z, 0–9 and '-'. */
  platform?: string;
  /** What others see of the user from the first login on. Without it: what was set before. */
  status?: Status;
  /** A short text beside the status, of at most 128 bytes. */
  statusText?: string;

  /**
   * Called for every message, one after the other: the next one waits until the promise that this returns has settled.
   * When it rejects, the message is not acknowledged, and the server sends it again. Without it this client only sends:
   * nothing is acknowledged, and messages for its device wait on the server.
   */
  onMessage?: (message: Message) => unknown;
  /** `auto`, the default: a message is acknowledged when onMessage has succeeded. `manual`: by message.ack(). */
  ack?: 'auto' | 'manual';

  /** Remembers which messages were handled when this client has gone. */
  dedupe?: Dedupe;

  /** The WebSocket to use, if there is none in the environment: that of the package `ws` in Node.js before 22. */
  WebSocket?: WebSocketConstructor;
  /** The least delay before connecting again, in milliseconds. Default 1,000. */
  minDelayMs?: number;
  /** The greatest delay before connecting again, in milliseconds. Default 30,000. */
  maxDelayMs?: number;
  /** How long connecting and logging in may take, in milliseconds. Default 15,000. */
  loginTimeoutMs?: number;
  /** How long a message may wait for its receipt, all repetitions included, in milliseconds. Default 60,000. */
  sendTimeoutMs?: number;
  /** How many messages may wait for their receipts. Default 1,000. */
  maxUnanswered?: number;
  /** How many bytes these may have. Default 4 MiB. */
  maxUnansweredBytes?: number;
  /** The largest frame that the server takes, in bytes. Default 65,536. */
  maxFrameBytes?: number;
  /**
   * How many messages a second are sent at most, the others wait: below the server's limit, which is 100 frames a second
   * by default and counts others too. Default 90; Infinity for none.
   */
  maxMessagesPerSecond?: number;
  /** How many bytes of messages a second are sent at most. Default 245,760; the server's limit is 262,144 by default. */
  maxBytesPerSecond?: number;
  /** How many messages may wait for onMessage. Default 1,000. */
  maxWaitingMessages?: number;
}

/** Options with their defaults. */
export type Settings = Required<
  Omit<ClientOptions, 'deviceId' | 'platform' | 'status' | 'statusText' | 'onMessage' | 'dedupe' | 'WebSocket'>
>;

/** Fills in the defaults. Throws when a number makes no sense. */
export function settingsOf(options: ClientOptions): Settings {
  const settings: Settings = {
    url: options.url,
    token: options.token,
    ack: options.ack ?? 'auto',
    minDelayMs: options.minDelayMs ?? 1_000,
    maxDelayMs: options.maxDelayMs ?? 30_000,
    loginTimeoutMs: options.loginTimeoutMs ?? 15_000,
    sendTimeoutMs: options.sendTimeoutMs ?? 60_000,
    maxUnanswered: options.maxUnanswered ?? 1_000,
    maxUnansweredBytes: options.maxUnansweredBytes ?? 4 * 1024 * 1024,
    maxFrameBytes: options.maxFrameBytes ?? 65_536,
    maxMessagesPerSecond: options.maxMessagesPerSecond ?? 90,
    maxBytesPerSecond: options.maxBytesPerSecond ?? 240 * 1024,
    maxWaitingMessages: options.maxWaitingMessages ?? 1_000,
  };
  for (const [name, value] of Object.entries(settings)) {
    if (typeof value === 'number' && !(value > 0)) {
      throw new TypeError(`option ${name} must be greater than 0, not ${value}`);
    }
  }
  return settings;
}
