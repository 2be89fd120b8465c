import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Code, ServerError, type State } from '@imcluster/client';
import { logIn } from '../support/chatter.js';
import { until } from '../support/client.js';
import { GatewayPair, jwt } from '../support/platform.js';
import { Queue } from '../support/queue.js';

const timeout = 60_000;

describe('when a gateway', { timeout }, () => {
  let gateways: GatewayPair;
  before(async () => {
    gateways = await GatewayPair.start();
  });
  after(() => gateways?.stop());

  it('moves its clients, they are online all the while, and no message is lost', async (t) => {
    gateways.lead(0);
    const states: State['status'][] = [];
    const alice = await logIn(t, gateways.url, 'alice');
    const bob = await logIn(t, gateways.urlOf(1), 'bob');
    alice.client.on('state', ({ status }) => states.push(status));
    gateways.lead(1);
    const drained = gateways.drain(0);
    const sent = [];
    for (let i = 0; states.length === 0; i++) {
      sent.push(alice.client.send({ to: 'bob', content: i }));
      assert.equal((await bob.received.next()).content, i);
    }
    await drained;
    await Promise.all(sent);
    assert.deepEqual(states, ['online'], 'never waiting, never connecting');
    await bob.client.sendText('alice', 'still there?');
    assert.equal((await alice.received.next()).text, 'still there?');
  });
});

describe('when a gateway is killed', { timeout }, () => {
  let gateways: GatewayPair;
  before(async () => {
    gateways = await GatewayPair.start();
  });
  after(() => gateways?.stop());

  it('its clients connect to another one, and what has no receipt is sent again', async (t) => {
    gateways.lead(0);
    const alice = await logIn(t, gateways.url, 'alice');
    const bob = await logIn(t, gateways.urlOf(1), 'bob');
    await until(alice.states, 'online');
    await alice.client.send({ to: 'bob', content: 'before' });
    gateways.lead(1);
    const killed = gateways.kill(0);
    const receipts = Promise.all(Array.from({ length: 20 }, (_, i) => alice.client.send({ to: 'bob', content: i })));
    await killed;
    await until(alice.states, 'online');
    await receipts;
    const contents: unknown[] = [];
    while (contents.at(-1) !== 19) {
      contents.push((await bob.received.next()).content);
    }
    assert.deepEqual(contents, ['before', ...Array.from({ length: 20 }, (_, i) => i)]);
  });
});

describe('a token that expires', { timeout }, () => {
  let gateways: GatewayPair;
  before(async () => {
    gateways = await GatewayPair.start('jwt');
  });
  after(() => gateways?.stop());

  it('is renewed on the open connection', async (t) => {
    const asked = new Queue<boolean>();
    const token = ({ expired }: { expired: boolean }) => {
      asked.push(expired);
      return jwt('alice', 2);
    };
    const { client, states } = await logIn(t, gateways.url, 'alice', { token });
    await until(states, 'online');
    for (let i = 0; i < 4; i++) {
      assert.equal(await asked.next(), false); // one login, and three renewals
    }
    assert.ok((await client.ping()) >= 0);
    assert.equal(states.size, 0, 'it was online all the while');
  });

  it('and was fixed, ends the session for good', async (t) => {
    const { states } = await logIn(t, gateways.url, 'bob', { token: jwt('bob', 1) });
    const { reason } = await until(states, 'closed');
    assert.ok(reason instanceof ServerError && reason.code === Code.TokenExpired);
  });

  it('and is refused from the start, is told by its code', async (t) => {
    await assert.rejects(logIn(t, gateways.url, 'carol', { token: 'carol' }), { code: Code.InvalidToken });
  });
});
