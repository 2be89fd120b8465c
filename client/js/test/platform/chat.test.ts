import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Code, Presence, PresenceError, ServerError } from '@imcluster/client';
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
    await bob.client.send({ to: 'alice', content: { any: ['json', 1.5, null] } });
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
    while ((await presence.get('alice')).state !== 'offline') {
      await delay(10); // presence hears of it within 50 ms
    }
  });

  it('hundreds of messages arrive once and in order', async (t) => {
    const sender = await logIn(t, platform.gateways[0], 'sender');
    const reader = await logIn(t, platform.gateways[1], 'reader');
    const count = 250;
    const sent = Array.from({ length: count }, (_, i) => sender.client.send({ to: 'reader', content: i }));
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
    const message = { to: 'once', content: 'hi', clientMsgId: 'draft-1' };
    const receipts = [await phone.client.send(message), await tablet.client.send(message)];
    assert.equal(receipts[0]?.msgId, receipts[1]?.msgId);
    await phone.client.send({ to: 'once', content: 'last' });
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

  it('groups are managed and written to by their members', async (t) => {
    const owner = await logIn(t, platform.gateways[0], 'owner');
    const member = await logIn(t, platform.gateways[1], 'member');
    const { groups } = owner.client;
    assert.deepEqual(await groups.create('g', ['member', 'later']), { id: 'g', owner: 'owner', count: 3 });
    await assert.rejects(groups.create('g'), { code: Code.Conflict });
    await assert.rejects(member.client.groups.add('g', ['x']), { code: Code.Forbidden });
    await assert.rejects(groups.members('no such group'), { code: Code.NotFound });
    assert.equal((await groups.remove('g', ['later'])).count, 2);
    assert.equal((await groups.add('g', ['later'])).count, 3);
    const first = await member.client.groups.members('g', { limit: 2 });
    assert.deepEqual([first.users, first.count], [['later', 'member'], 3]);
    const rest = await member.client.groups.members('g', { limit: 2, cursor: first.cursor });
    assert.deepEqual([rest.users, rest.cursor], [['owner'], undefined]);

    const receipt = await owner.client.send({ group: 'g', content: 'hello, group' });
    assert.equal(receipt.code, Code.OK);
    const later = await logIn(t, platform.gateways[1], 'later'); // was not there when it was sent
    for (const { received } of [member, later]) {
      const { kind, group, from, content, id } = await received.next();
      assert.deepEqual([kind, group, from, content, id], ['group', 'g', 'owner', 'hello, group', receipt.msgId]);
    }
    await groups.delete('g');
    await assert.rejects(owner.client.send({ group: 'g', content: 'anybody?' }), { code: Code.NotFound });
  });

  it('a device that was away gets everything in order, more than may be unacknowledged at once', async (t) => {
    const sender = await logIn(t, platform.gateways[0], 'writer');
    const before = await logIn(t, platform.gateways[1], 'traveller');
    await before.client.logOut();
    const count = 300;
    await Promise.all(Array.from({ length: count }, (_, i) => sender.client.send({ to: 'traveller', content: i })));
    const after = await logIn(t, platform.gateways[1], 'traveller');
    for (let i = 0; i < count; i++) {
      assert.equal((await after.received.next()).content, i);
    }
    await after.client.logOut();
    const again = await logIn(t, platform.gateways[0], 'traveller');
    await sender.client.send({ to: 'traveller', content: 'new' });
    assert.equal((await again.received.next()).content, 'new', 'the others were acknowledged');
    assert.equal(after.errors.size, 0);
  });

  it('back ends send, manage groups and disconnect users', async (t) => {
    const presence = new Presence({ url: platform.presence, apiKey: platform.apiKey });
    const user = await logIn(t, platform.gateways[0], 'customer');
    const message = { from: 'shop', user: 'customer', content: 'Your order is on its way', id: 'order-17' };
    const { msgId } = await presence.send(message);
    assert.equal((await presence.send(message)).msgId, msgId, 'the same message');
    const received = await user.received.next();
    assert.deepEqual([received.from, received.content, received.id], ['shop', message.content, msgId]);

    const { results } = await presence.send({ from: 'shop', users: ['customer', 'other'], content: 'Sale!' });
    assert.deepEqual(
      results?.map(({ user, status }) => [user, status]),
      [
        ['customer', 'stored'],
        ['other', 'stored'],
      ],
    );
    assert.equal((await user.received.next()).content, 'Sale!');

    const created = await presence.createGroup('a/b', { members: ['customer'], key: 'once' });
    assert.deepEqual(await presence.createGroup('a/b', { members: ['customer'], key: 'once' }), created);
    await assert.rejects(presence.createGroup('a/b'), { status: 409, code: 'group_exists' });
    assert.equal((await presence.addGroupMembers('a/b', ['other'])).members, 2);
    assert.equal((await presence.removeGroupMembers('a/b', ['other'])).members, 1);
    assert.equal((await presence.group('a/b')).members, 1);
    const members: string[] = [];
    for await (const member of presence.groupMembers('a/b')) {
      members.push(member);
    }
    assert.deepEqual(members, ['customer']);
    await presence.send({ from: 'shop', group: 'a/b', content: 'to the group' });
    assert.equal((await user.received.next()).group, 'a/b');
    await presence.deleteGroup('a/b');
    await assert.rejects(presence.send({ from: 'shop', group: 'a/b', content: 1, id: 'late' }), (error) => {
      assert.ok(error instanceof PresenceError && error.code === 'group_not_found');
      return true;
    });

    await presence.disconnect('customer', { reason: 'The password was changed' });
    const { reason } = await until(user.states, 'closed');
    assert.ok(reason instanceof ServerError && reason.code === Code.Revoked);
    assert.match(reason.message, /password/);
    await presence.reinstate('customer');
    await logIn(t, platform.gateways[1], 'customer'); // where there are no tokens, nobody is kept out
  });

  it('a refusal has the code of the server', async (t) => {
    const { client } = await logIn(t, platform.gateways[0], 'refused');
    await assert.rejects(client.send({ to: 'x'.repeat(129), content: 1 }), { name: 'ServerError', code: 402 });
    assert.equal(client.state.status, 'online');
  });
});
