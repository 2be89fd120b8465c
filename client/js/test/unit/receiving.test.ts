import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { HandlerError, type Message, OverrunError } from '@imcluster/client';
import { fake, flush, until } from '../support/client.js';
import type { WireFrame } from '../support/fake-server.js';
import { Queue } from '../support/queue.js';

const timeout = 10_000;

function chat(id: string, rest: Partial<WireFrame> = {}): WireFrame {
  return { type: '80', msgId: id, fromId: 'bob', toId: 'alice', time: 1_700_000_000_000, content: id, ...rest };
}

describe('a message that comes', { timeout }, () => {
  it('is what was sent', async (t) => {
    const received = new Queue<Message>();
    const { client, server } = await fake(t, { onMessage: (message) => received.push(message) });
    client.connect();
    const connection = await server.login();
    connection.send(
      chat('1', { content: { contentType: 1, body: '你好' }, clientMsgId: 'c', redelivered: true, missed: 7 }),
    );
    const { ack, giveBack, ...message } = await received.next();
    assert.deepEqual([typeof ack, typeof giveBack], ['function', 'function']);
    assert.deepEqual(message, {
      id: '1',
      kind: 'chat',
      from: 'bob',
      to: 'alice',
      group: undefined,
      clientMsgId: 'c',
      time: new Date(1_700_000_000_000),
      content: { contentType: 1, body: '你好' },
      text: '你好',
      redelivered: true,
      missed: 7,
    });
    connection.send({ ...chat('2'), type: '82', groupId: 'team' });
    connection.send({ ...chat('3'), type: '86' });
    const group = await received.next();
    assert.deepEqual([group.kind, group.group], ['group', 'team']);
    assert.equal((await received.next()).kind, 'broadcast');
  });

  it('is acknowledged when the promise of its handler has resolved, and the next one waits until then', async (t) => {
    const handled = new Queue<[Message, () => void]>();
    const { client, server } = await fake(t, {
      onMessage: (message) => new Promise<void>((resolve) => handled.push([message, resolve])),
    });
    client.connect();
    const connection = await server.login();
    connection.send(chat('1'));
    connection.send(chat('2'));
    const [first, finish] = await handled.next();
    assert.equal(first.id, '1');
    await flush(client, connection); // no acknowledgement came
    assert.equal(handled.size, 0);
    finish();
    assert.deepEqual(await connection.expect('90'), { type: '90', msgId: '1' });
    assert.equal((await handled.next())[0].id, '2');
  });

  it('is not acknowledged when its handler fails, and is handled again when it comes again', async (t) => {
    const seen: string[] = [];
    const { client, server, errors } = await fake(t, {
      onMessage: ({ id }) => {
        seen.push(id);
        if (seen.length === 1) {
          throw new Error('disk full');
        }
      },
    });
    client.connect();
    const connection = await server.login();
    connection.send(chat('1', { content: 'secret' }));
    const error = await errors.next();
    assert.ok(error instanceof HandlerError && error.received.id === '1');
    assert.match(error.message, /disk full/);
    assert.doesNotMatch(inspect(error), /secret/, 'what people write stays out of logs');
    await flush(client, connection);
    connection.send(chat('1', { redelivered: true }));
    await connection.expect('90');
    assert.deepEqual(seen, ['1', '1']);
  });

  it('again is handled once, and acknowledged again, also after a reconnect', async (t) => {
    const seen: string[] = [];
    const { client, server, states, clock } = await fake(t, { onMessage: ({ id }) => seen.push(id) });
    client.connect();
    const before = await server.login();
    before.send(chat('1'));
    await before.expect('90');
    before.send({ type: '91', code: 200, msgId: '1' });
    before.send(chat('1'));
    await before.expect('90');
    before.send({ type: '91', code: 200, msgId: '1' });
    await flush(client, before);
    before.terminate();
    clock.advance((await until(states, 'waiting')).delayMs);
    const after = await server.login();
    after.send(chat('1', { redelivered: true }));
    after.send(chat('2'));
    assert.equal((await after.expect('90')).msgId, '1');
    assert.equal((await after.expect('90')).msgId, '2');
    assert.deepEqual(seen, ['1', '2']);
  });

  it('again is forgotten after thousands of others', async (t) => {
    const seen: string[] = [];
    const { client, server } = await fake(t, { onMessage: ({ id }) => seen.push(id), maxWaitingMessages: 10 });
    client.connect();
    const connection = await server.login();
    const count = 4_096 + 10;
    for (let i = 0; i < count; i++) {
      connection.send({ ...chat(String(i)), type: '86' });
      if (i % 5 === 0) {
        await flush(client, connection);
      }
    }
    await flush(client, connection);
    assert.equal(seen.length, count);
    connection.send({ ...chat('10'), type: '86' });
    connection.send({ ...chat('new'), type: '86' });
    connection.send({ ...chat('0'), type: '86' });
    await flush(client, connection);
    assert.deepEqual(seen.slice(count), ['new', '0'], 'a bounded memory');
  });

  it('is acknowledged over the next connection when this one has gone meanwhile', async (t) => {
    let finish = () => {};
    const { client, server, states, clock } = await fake(t, {
      onMessage: () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
    });
    client.connect();
    const before = await server.login();
    before.send(chat('1'));
    await flush(client, before);
    before.terminate();
    const { delayMs } = await until(states, 'waiting');
    finish();
    clock.advance(delayMs);
    const after = await server.login();
    assert.equal((await after.expect('90')).msgId, '1');
  });

  it('is acknowledged by the program if it wants to', async (t) => {
    const received = new Queue<Message>();
    const { client, server } = await fake(t, { ack: 'manual', onMessage: (message) => received.push(message) });
    client.connect();
    const connection = await server.login();
    connection.send(chat('1'));
    const message = await received.next();
    await flush(client, connection);
    connection.send(chat('1', { redelivered: true }));
    await flush(client, connection); // neither handled nor acknowledged again
    assert.equal(received.size, 0);
    const confirmed = message.ack();
    await connection.expect('90');
    connection.send({ type: '91', code: 200, msgId: '1' });
    await confirmed;
    connection.send(chat('1', { redelivered: true }));
    await connection.expect('90'); // the server lost it
    assert.equal(received.size, 0);
  });

  it('is handed out again if the program has given it back', async (t) => {
    const received = new Queue<Message>();
    const { client, server } = await fake(t, { ack: 'manual', onMessage: (message) => received.push(message) });
    client.connect();
    const connection = await server.login();
    connection.send(chat('1'));
    const message = await received.next();
    await flush(client, connection);
    message.giveBack();
    connection.send(chat('1', { redelivered: true }));
    assert.equal((await received.next()).redelivered, true);
  });

  it('is not handled again if the program remembers that it was', async (t) => {
    const handled = new Set(['1']);
    const seen: string[] = [];
    const { client, server } = await fake(t, {
      dedupe: {
        handled: async (msgId) => handled.has(msgId),
        setHandled: async (msgId) => {
          handled.add(msgId);
        },
      },
      onMessage: ({ id }) => seen.push(id),
    });
    client.connect();
    const connection = await server.login();
    connection.send(chat('1'));
    connection.send(chat('2'));
    assert.equal((await connection.expect('90')).msgId, '1');
    assert.equal((await connection.expect('90')).msgId, '2');
    assert.deepEqual(seen, ['2']);
    assert.deepEqual([...handled], ['1', '2']);
  });

  it('is left alone by a client that handles none', async (t) => {
    const { client, server } = await fake(t);
    client.connect();
    const connection = await server.login();
    connection.send(chat('1'));
    await flush(client, connection);
  });
});

describe('acknowledgements', { timeout }, () => {
  it('are 64 under way at most, and wait when the server says that they come too fast', async (t) => {
    const { client, server, clock } = await fake(t, { onMessage: () => {} });
    client.connect();
    const connection = await server.login();
    for (let i = 0; i < 100; i++) {
      connection.send(chat(String(i)));
    }
    for (let i = 0; i < 64; i++) {
      await connection.expect('90');
    }
    await flush(client, connection);
    connection.send({ type: '91', code: 601, msgId: '0', delayMs: 800 });
    connection.send({ type: '91', code: 200, msgId: '1' });
    await flush(client, connection);
    clock.advance(799);
    await flush(client, connection);
    clock.advance(1);
    assert.equal((await connection.expect('90')).msgId, '0');
    assert.equal((await connection.expect('90')).msgId, '64');
  });
});

describe('a logout', { timeout }, () => {
  it('waits until what was handled has been acknowledged', async (t) => {
    const { client, server, clock } = await fake(t, { onMessage: () => {} });
    client.connect();
    const connection = await server.login();
    for (let i = 0; i < 65; i++) {
      connection.send(chat(String(i)));
    }
    for (let i = 0; i < 64; i++) {
      await connection.expect('90');
    }
    const loggedOut = client.logOut();
    connection.send(chat('too late'));
    await flush(client, connection);
    for (let i = 0; i < 64; i++) {
      connection.send({ type: '91', code: 200, msgId: String(i) });
    }
    assert.equal((await connection.expect('90')).msgId, '64');
    connection.send({ type: '91', code: 200, msgId: '64' });
    await connection.expect('12');
    connection.close(1000);
    await loggedOut;
    assert.equal(clock.timers, 0);
  });

  it('does not wait for ever', async (t) => {
    const { client, server, clock } = await fake(t, { onMessage: () => {} });
    client.connect();
    const connection = await server.login();
    connection.send(chat('1'));
    await connection.expect('90');
    const loggedOut = client.logOut();
    clock.advance(5_000);
    await connection.expect('12');
    clock.advance(5_000);
    await loggedOut;
    assert.equal(client.state.status, 'closed');
  });

  it('needs no connection', async (t) => {
    const { client, server, states } = await fake(t, { onMessage: () => {} });
    client.connect();
    const connection = await server.login();
    connection.send(chat('1'));
    await connection.expect('90');
    connection.terminate();
    await until(states, 'waiting');
    await client.logOut();
    assert.equal(client.state.status, 'closed');
  });
});

describe('messages that come faster than they are handled', { timeout }, () => {
  it('end the connection, which is made again when there is room', async (t) => {
    const handled = new Queue<[Message, () => void]>();
    const { client, server, states, errors, clock } = await fake(t, {
      maxWaitingMessages: 4,
      onMessage: (message) => new Promise<void>((resolve) => handled.push([message, resolve])),
    });
    client.connect();
    const before = await server.login();
    before.send(chat('1'));
    const [, finishFirst] = await handled.next();
    for (const id of ['2', '3', '4', '5', '6']) {
      before.send(chat(id));
    }
    assert.ok((await errors.next()) instanceof OverrunError);
    assert.equal(await before.closed, 4000);
    clock.advance((await until(states, 'waiting')).delayMs);
    assert.equal(client.state.status, 'waiting', 'there is no room yet');
    finishFirst();
    const [second, finishSecond] = await handled.next();
    assert.equal(second.id, '2');
    finishSecond();
    await handled.next();
    const after = await server.login();
    after.send(chat('5'));
    after.send(chat('6'));
    await until(states, 'online');
  });
});
