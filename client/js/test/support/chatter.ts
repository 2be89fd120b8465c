import type { TestContext } from 'node:test';
import { Client, type ClientOptions, type Message } from '@imcluster/client';
import { WebSocket } from 'ws';
import { observe } from './client.js';
import { Queue } from './queue.js';

/** A client of a real platform whose messages are recorded. */
export interface Chatter extends ReturnType<typeof observe> {
  received: Queue<Message>;
}

/** Logs a user in, from Node.js. The client ends with the test. */
export async function logIn(
  t: TestContext,
  url: string,
  user: string,
  options: Partial<ClientOptions> = {},
): Promise<Chatter> {
  const received = new Queue<Message>();
  const client = new Client({
    url,
    token: user,
    WebSocket,
    minDelayMs: 100,
    maxDelayMs: 1_000,
    onMessage: (message) => received.push(message),
    ...options,
  });
  const observed = observe(t, client);
  await client.connect();
  return { ...observed, received };
}
