/**
 * The part of the browser's WebSocket that the client uses. That of the package `ws` fits too, and so do others that keep
 * to the standard.
 */
export interface WebSocketLike {
  send(data: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
}

/** How to make a WebSocket. */
export type WebSocketConstructor = new (url: string) => WebSocketLike;

/**
 * The close code of a client that goes without logging out. 1000 would take the device offline at once, and browsers let
 * pages say nothing else below 3000; the server's own codes begin after it.
 */
export const closeWithoutLogout = 4000;

/** Returns the WebSocket of the environment, or throws an error that says where to get one. */
export function defaultWebSocket(): WebSocketConstructor {
  if (typeof globalThis.WebSocket !== 'function') {
    throw new TypeError(
      "there is no WebSocket here (Node.js has one from version 22 on): npm install ws, import { WebSocket } from 'ws', and pass it as the option WebSocket",
    );
  }
  return globalThis.WebSocket;
}

/** Returns the WebSocket URL of a gateway: http(s) becomes ws(s), and without a path, /ws is added. */
export function gatewayURL(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new TypeError(`url ${JSON.stringify(text)} is not a URL such as wss://chat.example.com/ws`);
  }
  const protocol = { 'http:': 'ws:', 'https:': 'wss:', 'ws:': 'ws:', 'wss:': 'wss:' }[url.protocol];
  if (protocol === undefined) {
    throw new TypeError(`url ${JSON.stringify(text)} must begin with wss:// or ws://`);
  }
  const path = url.pathname === '' || url.pathname === '/' ? '/ws' : url.pathname;
  return `${protocol}//${url.host}${path}${url.search}`;
}
