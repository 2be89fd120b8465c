import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConnectionLostError, ServerError } from '@imcluster/client';
import { backoffDelay } from '../../dist/backoff.js';
import { renewalDelay } from '../../dist/login.js';
import { fake, flush, until } from '../support/client.js';

const timeout = 10_000;

describe('the delay before connecting again', { timeout }, () => {
  it('is spread evenly below a bound that doubles, from 1 s to 30 s', () => {
    const backoff = { minMs: 1_000, maxMs: 30_000 };
    const most = [0, 1, 2, 3, 4, 5, 1_000].map((failures) => backoffDelay(backoff, failures, { random: () => 1 }));
    assert.deepEqual(most, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    assert.equal(backoffDelay(backoff, 9, { random: () => 0 }), 1_000);
    assert.equal(backoffDelay(backoff, 1, { random: () => 0.5 }), 2_500);
  });

  it('grows with each failure, and is kept to the millisecond', async (t) => {
    const { client, states, server, clock } = await fake(t);
    clock.chance = 0.5;
    client.connect().catch(() => {});
    for (const delayMs of [1_500, 2_500, 4_500, 8_500]) {
      (await server.connection()).terminate();
      assert.equal((await until(states, 'waiting')).delayMs, delayMs);
      clock.advance(delayMs - 1);
      assert.equal(client.state.status, 'waiting');
      clock.advance(1);
      assert.equal(client.state.status, 'connecting');
    }
  });

  it('goes on to grow when connections break soon after the login', async (t) => {
    const { client, states, server, clock } = await fake(t);
    clock.chance = 1;
    client.connect();
    for (const delayMs of [2_000, 4_000, 8_000]) {
      (await server.login()).terminate();
      assert.equal((await until(states, 'waiting')).delayMs, delayMs);
      clock.advance(delayMs);
    }
    const connection = await server.login();
    await until(states, 'online');
    for (let second = 0; second < 30; second += 10) {
      clock.advance(10_000);
      await connection.expect('40');
      connection.send({ type: '41' });
      await flush(client, connection);
    }
    connection.terminate();
    assert.equal((await until(states, 'waiting')).delayMs, 2_000, 'a connection of 30 s is no failure');
  });

  it('is at least what a server asks for that refuses the login', async (t) => {
    const { client, states, server, clock } = await fake(t);
    client.connect();
    const connection = await server.connection();
    await connection.expect('10');
    connection.send({ type: '11', code: 602, message: 'full', delayMs: 12_345 });
    const { delayMs, reason } = await until(states, 'waiting');
    assert.equal(delayMs, 12_345);
    assert.ok(reason instanceof ServerError && reason.code === 602 && reason.retryable);
    clock.advance(12_345);
    await server.login();
    await until(states, 'online');
  });

  it('is below a second when a gateway stops, but only once', async (t) => {
    const { client, states, server, clock } = await fake(t);
    clock.chance = 0.5;
    client.connect();
    (await server.login()).close(1001);
    assert.equal((await until(states, 'waiting')).delayMs, 500);
    clock.advance(500);
    (await server.login()).close(1001);
    assert.equal((await until(states, 'waiting')).delayMs, 2_500);
  });

  it('ends when the network is back', async (t) => {
    const { client, states, server, clock } = await fake(t);
    client.connect();
    (await server.login()).terminate();
    await until(states, 'waiting');
    clock.wake(false);
    assert.equal(client.state.status, 'waiting');
    clock.wake(true);
    await server.login();
    await until(states, 'online');
  });
});

describe('the login', { timeout }, () => {
  it('is given up after 15 s', async (t) => {
    const { client, states, server, clock } = await fake(t);
    client.connect();
    const connection = await server.connection();
    await connection.expect('10');
    clock.advance(15_000);
    const { reason } = await until(states, 'waiting');
    assert.ok(reason instanceof ConnectionLostError);
    assert.equal(await connection.closed, 4000);
  });

  it('goes to the next address after a failure', async (t) => {
    const { server: good } = await fake(t);
    const { server: bad } = await fake(t);
    const { client, states, clock } = await fake(t, { url: [bad.url, good.url] });
    client.connect();
    (await bad.connection()).terminate();
    await until(states, 'waiting');
    clock.advance(2_000);
    await good.login();
    await until(states, 'online');
  });

  it('asks for a token each time, and waits when there is none', async (t) => {
    let calls = 0;
    const token = () => {
      calls++;
      return calls === 1 ? Promise.reject(new Error('no network')) : `token-${calls}`;
    };
    const { client, states, server, clock } = await fake(t, { token, deviceId: 'phone', platform: 'web' });
    client.connect();
    const { reason } = await until(states, 'waiting');
    assert.match(reason.message, /no network/);
    clock.advance(2_000);
    const connection = await server.connection();
    assert.deepEqual(await connection.expect('10'), {
      type: '10',
      token: 'token-2',
      deviceId: 'phone',
      platform: 'web',
    });
  });

  it('does not wait for ever for a token', async (t) => {
    const { client, states, clock } = await fake(t, { token: () => new Promise<string>(() => {}) });
    client.connect();
    await until(states, 'connecting');
    clock.advance(15_000);
    assert.match((await until(states, 'waiting')).reason.message, /token provider/);
  });

  it('happens again at once with a fresh token when the one before has expired', async (t) => {
    const asked: boolean[] = [];
    const token = ({ expired }: { expired: boolean }) => {
      asked.push(expired);
      return 'token';
    };
    const { client, states, server, clock } = await fake(t, { token });
    client.connect();
    const connection = await server.login();
    connection.send({ type: '0', code: 302, message: 'the token has expired' });
    connection.close(4302);
    assert.equal((await until(states, 'waiting')).delayMs, 0);
    clock.advance(0);
    await server.login();
    await until(states, 'online');
    assert.deepEqual(asked, [false, true]);
  });
});

describe('a token', { timeout }, () => {
  const time = 1_700_000_000_000;

  it('is renewed a minute before it expires, or after half of a shorter time', () => {
    assert.equal(renewalDelay({ type: 11, time, expiresAt: time + 3_600_000 }), 3_540_000);
    assert.equal(renewalDelay({ type: 11, time, expiresAt: time + 60_000 }), 30_000);
    assert.equal(renewalDelay({ type: 11, time, expiresAt: time }), undefined);
    assert.equal(renewalDelay({ type: 11, time }), undefined);
  });

  it('is renewed on the open connection, again and again', async (t) => {
    let tokens = 0;
    const token = () => {
      tokens++;
      return `token-${tokens}`;
    };
    const { client, server, clock, states } = await fake(t, { token, deviceId: 'phone' });
    client.connect();
    const connection = await server.login({ heartbeatSeconds: 86_400, time, expiresAt: time + 3_600_000 });
    await until(states, 'online');
    for (const expected of ['token-2', 'token-3']) {
      clock.advance(3_539_999);
      await flush(client, connection);
      clock.advance(1);
      assert.deepEqual(await connection.expect('10'), { type: '10', token: expected, deviceId: 'phone' });
      connection.send({ type: '11', code: 200, userId: 'alice', time, expiresAt: time + 3_600_000 });
      await flush(client, connection);
    }
    assert.equal(client.state.status, 'online');
  });

  it('that is fixed is not renewed', async (t) => {
    const { client, server, clock } = await fake(t);
    client.connect();
    const connection = await server.login({ heartbeatSeconds: 86_400, time, expiresAt: time + 3_600_000 });
    await flush(client, connection);
    clock.advance(3_600_000);
    await flush(client, connection);
  });
});

describe('the end of a session', { timeout }, () => {
  const finals: [string, number, (error: ServerError) => boolean][] = [
    ['an invalid token', 301, (error) => !error.retryable],
    ['an expired token that is fixed', 302, (error) => !error.retryable],
    ['a kick', 304, (error) => error.kicked],
    ['a revocation', 305, (error) => !error.kicked],
    ['a broken frame', 400, (error) => !error.retryable],
  ];
  for (const [name, code, matches] of finals) {
    it(`is final after ${name}`, async (t) => {
      const { client, states, server, clock } = await fake(t);
      client.connect();
      (await server.login()).close(4000 + code, 'because');
      const { reason } = await until(states, 'closed');
      assert.ok(reason instanceof ServerError && reason.code === code && matches(reason));
      assert.match(reason.message, /because/);
      assert.equal(clock.timers, 0, 'nothing is going on any more');
      await assert.rejects(client.sendText('bob', 'hi'), { name: 'ClosedError', cause: reason });
    });
  }

  it('is told by the KICKED frame alone', async (t) => {
    const { client, states, server } = await fake(t);
    client.connect();
    const connection = await server.login();
    connection.send({ type: '32', code: 304, message: 'the device logged in elsewhere; do not reconnect' });
    const { reason } = await until(states, 'closed');
    assert.ok(reason instanceof ServerError && reason.kicked);
  });

  it('rejects connect when the login is refused for good', async (t) => {
    const { client, server } = await fake(t);
    const connected = client.connect();
    const connection = await server.connection();
    await connection.expect('10');
    connection.send({ type: '11', code: 301, message: 'the token was refused' });
    await assert.rejects(connected, { name: 'ServerError', code: 301 });
  });

  it('leaves nothing behind when the program closes the client', async (t) => {
    const { client, states, server, clock } = await fake(t);
    client.connect();
    const connection = await server.login();
    await until(states, 'online');
    const sent = client.sendText('bob', 'hi');
    client.close();
    await assert.rejects(sent, { name: 'ClosedError' });
    assert.equal(await connection.closed, 4000, 'not 1000, which would be a logout');
    assert.equal(clock.timers, 0);
    assert.equal(client.state.status, 'closed');
  });

  it('waits for the server at a logout', async (t) => {
    const { client, server, clock } = await fake(t);
    client.connect();
    const connection = await server.login();
    await client.connect();
    let done = false;
    const loggedOut = client.logOut().then(() => {
      done = true;
    });
    await connection.expect('12');
    assert.equal(done, false);
    connection.close(1000);
    await loggedOut;
    assert.equal(clock.timers, 0);
  });
});

describe('moving to another gateway', { timeout }, () => {
  it('waits as long as the server says, and uses the connection until the new one has logged in', async (t) => {
    const { client, server, clock } = await fake(t);
    const states: string[] = [];
    client.on('state', ({ status }) => states.push(status));
    client.connect();
    const before = await server.login();
    await client.connect();
    before.send({ type: '31', code: 502, delayMs: 3_000 });
    const first = client.sendText('bob', 'on the connection before');
    before.answer(await before.expect('80'));
    await first; // the frames before it were read
    clock.advance(2_999);
    assert.equal(server.accepted, 1);
    clock.advance(1);
    const after = await server.connection();
    await after.expect('10');
    const second = client.sendText('bob', 'while it moves');
    before.answer(await before.expect('80'));
    await second;
    after.send({ type: '11', code: 200, userId: 'alice', deviceId: 'default', sessionId: 't' });
    assert.equal(await before.closed, 4000);
    const third = client.sendText('bob', 'on the connection after');
    after.answer(await after.expect('80'));
    await third;
    assert.deepEqual(states, ['connecting', 'online', 'online'], 'it was never offline');
  });

  it('does not take its own new login for a kick', async (t) => {
    const { client, server, clock } = await fake(t);
    client.connect();
    const before = await server.login();
    await client.connect();
    before.send({ type: '31', code: 502, delayMs: 0 });
    await flush(client, before);
    clock.advance(0);
    const after = await server.connection();
    await after.expect('10');
    before.send({ type: '32', code: 304 });
    before.close(4304);
    await before.closed;
    after.send({ type: '11', code: 200, userId: 'alice' });
    const receipt = client.sendText('bob', 'hi');
    after.answer(await after.expect('80'));
    await receipt;
  });

  it('keeps to the delay when the gateway closes before', async (t) => {
    const { client, server, clock, states } = await fake(t);
    client.connect();
    const before = await server.login();
    await until(states, 'online');
    before.send({ type: '31', code: 502, delayMs: 5_000 });
    before.close(4502);
    await until(states, 'waiting');
    clock.advance(4_999);
    assert.equal(client.state.status, 'waiting');
    clock.advance(1);
    await server.login();
    await until(states, 'online');
  });
});

describe('the heartbeat', { timeout }, () => {
  it('pings as often as the server says, and ends a connection that is silent for three', async (t) => {
    const { client, server, clock, states } = await fake(t);
    client.connect();
    const connection = await server.login({ heartbeatSeconds: 7 });
    await until(states, 'online');
    clock.advance(7_000);
    await connection.expect('40');
    clock.advance(7_000);
    await connection.expect('40');
    assert.equal(client.state.status, 'online');
    clock.advance(7_000);
    assert.match((await until(states, 'waiting')).reason.message, /silent/);
  });

  it('takes any frame for a sign of life', async (t) => {
    const { client, server, clock, states } = await fake(t);
    client.connect();
    const connection = await server.login({ heartbeatSeconds: 7 });
    await until(states, 'online');
    clock.advance(14_000);
    const answered = client.sendText('bob', 'hi');
    await connection.expect('40');
    await connection.expect('40');
    connection.answer(await connection.expect('80'));
    await answered;
    clock.advance(14_000);
    assert.equal(client.state.status, 'online');
  });

  it('does not blame the server when this program slept', async (t) => {
    const { client, server, clock, states } = await fake(t);
    client.connect();
    const connection = await server.login();
    await until(states, 'online');
    clock.advance(20_000);
    clock.sleep(3_600_000);
    assert.equal(client.state.status, 'online');
    for (let i = 0; i < 3; i++) {
      await connection.expect('40');
    }
    clock.advance(30_000);
    assert.equal(client.state.status, 'waiting');
  });

  it('keeps a connection that answers when the page is looked at again', async (t) => {
    const { client, server, clock, states } = await fake(t);
    client.connect();
    const connection = await server.login();
    await until(states, 'online');
    clock.wake(true);
    await connection.expect('40');
    connection.send({ type: '41' });
    await flush(client, connection);
    clock.advance(5_000);
    assert.equal(client.state.status, 'online');
  });

  it('finds a dead connection within 5 s when the page is looked at again', async (t) => {
    const { client, server, clock, states } = await fake(t);
    client.connect();
    const connection = await server.login();
    await until(states, 'online');
    clock.wake(true);
    await connection.expect('40');
    clock.advance(4_999);
    assert.equal(client.state.status, 'online');
    clock.advance(1);
    assert.match((await until(states, 'waiting')).reason.message, /does not answer/);
  });
});
