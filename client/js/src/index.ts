/**
 * Talks to an IMCluster: chat over a WebSocket with {@link Client}, and presence over HTTP with {@link Presence}.
 *
 * @packageDocumentation
 */

export {
  type BroadcastReceipt,
  Client,
  type ClientEvents,
  type Outgoing,
  type Receipt,
} from './client.js';
export { Code } from './codes.js';
export type { Environment } from './environment.js';
export {
  ClosedError,
  ConnectionLostError,
  HandlerError,
  OverrunError,
  ServerError,
  TimeoutError,
  TooManyWaitingError,
} from './errors.js';
export type { Group, Groups, PageOptions, UserPage } from './groups.js';
export type { State } from './link.js';
export type { Login } from './login.js';
export { type Message, type TextContent, textContent } from './message.js';
export type { ClientOptions, TokenProvider, TokenRequest } from './options.js';
export {
  type Device,
  type Freshness,
  type OnlineCount,
  type OnlinePage,
  Presence,
  PresenceError,
  type PresenceOptions,
  type PresenceState,
  type RequestOptions,
  type UserPresence,
} from './presence.js';
export type { WebSocketConstructor, WebSocketLike } from './socket.js';
