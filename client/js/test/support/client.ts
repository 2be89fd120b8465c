import type { TestContext } from 'node:test';
import { Client, type ClientOptions, type State } from '@imcluster/client';
import { WebSocket } from 'ws';
import { Clock } from './clock.js';
import { type FakeConnection, FakeServer } from './fake-server.js';
import { Queue } from './queue.js';

/** A client whose states and errors are recorded. */
export interface Observed {
  client: Client;
  states: Queue<State>;
  errors: Queue<Error>;
}

/** Makes a client that ends with the test. */
export function observe(t: TestContext, client: Client): Observed {
  const states = new Queue<State>();
  const errors = new Queue<Error>();
  client.on('state', (state) => states.push(state));
  client.on('error', (error) => errors.push(error));
  t.after(() => client.close());
  return { client, states, errors };
}

/** Waits for a state, and passes over others. */
export async function until<Status extends State['status']>(
  states: Queue<State>,
  status: Status,
): Promise<Extract<State, { status: Status }>> {
  for (;;) {
    const state = await states.next();
    if (state.status === status) {
      return state as Extract<State, { status: Status }>;
    }
  }
}

/** Returns when the client has handled every frame that the server sent before. The client must have sent nothing else. */
export async function flush(client: Client, connection: FakeConnection): Promise<void> {
  await client.connect();
  const ping = client.ping();
  await connection.expect('40');
  connection.send({ type: '41' });
  await ping;
}

/** A client with a fake gateway and a clock that stands still. */
export async function fake(
  t: TestContext,
  options: Partial<ClientOptions> = {},
): Promise<Observed & { server: FakeServer; clock: Clock }> {
  const server = await FakeServer.start();
  t.after(() => server.close());
  const clock = new Clock();
  const client = new Client({ url: server.url, token: 'alice', WebSocket, ...options }, clock);
  return { ...observe(t, client), server, clock };
}
