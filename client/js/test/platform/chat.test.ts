import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Presence, ServerError } from '@imcluster/client';
import { logIn } from '../support/chatter.js';
import { until } from '../support/client.js';
import { type DevPlatform, startDev } from '../support/platform.js';

const timeout = 60_000;

describe('on a platform', { timeout }, () => {
  let platform: DevPlatform;
  before(async () => {
    platform = await startDev();
  });
  after(() => platform?.stop());

  it('users on two gateways chat, and presence sees them', async (t) => {
    const alice = await logIn(t, platform.gateways[0], 'alice', { deviceId: 'phone', platform: 'web' });
    const bob = await logIn(t, platform.gateways[1], 'bob');
    const receipt = await alice.client.sendText('bob', '测试消息');
    const message = await bob.received.next();
    assert.equal(message.text, '测试消息');
    assert.equal(message.id, receipt.msgId);
    assert.deepEqual([message.from, message.to], ['alice', 'bob']);
    await bob.client.send('alice', { content: { any: ['json', 1.5, null] } });
    assert.deepEqual((await alice.received.next()).content, { any: ['json', 1.5, null] });
    assert.ok((await alice.client.ping()) >= 0);

    const presence = new Presence({ url: platform.presence, apiKey: platform.apiKey });
    const { state, devices } = await presence.get('alice');
    assert.equal(state, 'online');
    assert.deepEqual(
      devices.map(({ id, platform: kind, gateway }) => [id, kind, gateway]),
      [['phone', 'web', 'gateway-1']],
    );
    const { users } = await presence.batchGet(['bob', 'nobody', 'alice']);
    assert.deepEqual(
      users.map(({ user, state }) => [user, state]),
      [
        ['bob', 'online'],
        ['nobody', 'unknown'],
        ['alice', 'online'],
      ],
    );
    const online: string[] = [];
    for await (const user of presence.online()) {
      online.push(user);
    }
    assert.deepEqual(online.toSorted(), ['alice', 'bob']);
    while ((await presence.count()).users !== 2) {
      await delay(50); // the numbers may be a second old
    }
    await assert.rejects(new Presence({ url: platform.presence, apiKey: 'wrong' }).count(), {
      status: 401,
      code: 'unauthenticated',
    });

    await alice.client.logOut();
    assert.equal((await presence.get('alice')).state, 'offline', 'at once');
  });

  it('hundreds of messages arrive once and in order', async (t) => {
    const sender = await logIn(t, platform.gateways[0], 'sender');
    const reader = await logIn(t, platform.gateways[1], 'reader');
    const count = 250;
    const sent = Array.from({ length: count }, (_, i) => sender.client.send('reader', { content: i }));
    for (let i = 0; i < count; i++) {
      assert.equal((await reader.received.next()).content, i);
    }
    await Promise.all(sent);
    assert.equal(sender.errors.size + reader.errors.size, 0);
  });

  it('the same message, sent twice, is received once', async (t) => {
    const phone = await logIn(t, platform.gateways[0], 'twin', { deviceId: 'phone' });
    const tablet = await logIn(t, platform.gateways[1], 'twin', { deviceId: 'tablet' });
    const reader = await logIn(t, platform.gateways[1], 'once');
    const message = { content: 'hi', clientMsgId: 'draft-1' };
    const receipts = [await phone.client.send('once', message), await tablet.client.send('once', message)];
    assert.equal(receipts[0]?.msgId, receipts[1]?.msgId);
    await phone.client.send('once', { content: 'last' });
    assert.equal((await reader.received.next()).content, 'hi');
    assert.equal((await reader.received.next()).content, 'last');
  });

  it('a device that logs in elsewhere ends the session before, for good', async (t) => {
    const before = await logIn(t, platform.gateways[0], 'kicked', { deviceId: 'phone' });
    const after = await logIn(t, platform.gateways[1], 'kicked', { deviceId: 'phone' });
    const { reason } = await until(before.states, 'closed');
    assert.ok(reason instanceof ServerError && reason.kicked);
    assert.equal(after.client.state.status, 'online');
  });

  it('a refusal has the code of the server', async (t) => {
    const { client } = await logIn(t, platform.gateways[0], 'refused');
    await assert.rejects(client.send('x'.repeat(129), { content: 1 }), { name: 'ServerError', code: 402 });
    assert.equal(client.state.status, 'online');
  });
});
