/**
 * Talks to an IMCluster: chat over a WebSocket with {@link Client}, and presence over HTTP with {@link Presence}.
 *
 * @packageDocumentation
 */

export { Client, type ClientEvents } from './client.js';
export { Code } from './codes.js';
export type { Contact, ContactList, Contacts, Status } from './contacts.js';
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
export type { Dedupe } from './inbox.js';
export type { State } from './link.js';
export type { Login } from './login.js';
export { type Message, type TextContent, textContent } from './message.js';
export type { ClientOptions, TokenProvider, TokenRequest } from './options.js';
export type { Outgoing, Receipt, Recipient } from './outgoing.js';
export { Presence, PresenceError } from './presence.js';
export type {
  Audience,
  BackEndMessage,
  BackEndReceipt,
  Device,
  Disconnection,
  Freshness,
  GroupInfo,
  OnlineCount,
  OnlinePage,
  PresenceOptions,
  PresenceState,
  RequestOptions,
  SendResult,
  UserPresence,
} from './presence-types.js';
export type { WebSocketConstructor, WebSocketLike } from './socket.js';
