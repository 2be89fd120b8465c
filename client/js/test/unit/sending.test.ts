import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ServerError } from '@imcluster/client';
import { fake, flush, until } from '../support/client.js';

const timeout = 10_000;

describe('a message', { timeout }, () => {
  it('is sent as the protocol shows it, and its receipt is the answer', async (t) => {
    const { client, server } = await fake(t);
    client.connect();
    const connection = await server.login();
    const sent = client.sendText('bob', '测试消息');
    const frame = await connection.expect('80');
    assert.deepEqual(frame, {
      type: '80',
      toId: 'bob',
      clientMsgId: 'id-1',
      content: { contentType: 1, body: '测试消息' },
    });
    connection.answer(frame);
    assert.deepEqual(await sent, {
      msgId: 'm-id-1',
      clientMsgId: 'id-1',
      code: 200,
      time: new Date(1_700_000_000_000),
    });
    const other = client.send({ to: 'bob', content: 1, clientMsgId: 'mine' });
    connection.answer(await connection.expect('80'), { code: 201 });
    assert.equal((await other).code, 201);
  });

  it('waits until there is a connection', async (t) => {
    const { client, server } = await fake(t);
    const sent = client.sendText('bob', 'early');
    client.connect();
    const connection = await server.login();
    connection.answer(await connection.expect('80'));
    await sent;
  });

  it('that has no answer is sent again after a reconnect, with the same id and in the same order', async (t) => {
    const { client, server, states, clock } = await fake(t);
    client.connect();
    const before = await server.login();
    const sent = ['1', '2', '3'].map((text) => client.sendText('bob', text));
    before.answer(await before.expect('80'));
    await sent[0];
    await before.expect('80');
    before.terminate();
    const { delayMs } = await until(states, 'waiting');
    const late = client.sendText('bob', '4');
    clock.advance(delayMs);
    const after = await server.login();
    for (const id of ['id-2', 'id-3', 'id-4']) {
      const frame = await after.expect('80');
      assert.equal(frame.clientMsgId, id);
      after.answer(frame);
    }
    await Promise.all([...sent, late]);
    assert.equal(client.unanswered, 0);
  });

  it('that is refused for a while is sent again after the delay of the server', async (t) => {
    const { client, server, clock } = await fake(t);
    client.connect();
    const connection = await server.login();
    const sent = client.sendText('bob', 'hi');
    connection.answer(await connection.expect('80'), { code: 500, delayMs: 1_234 });
    await flush(client, connection);
    clock.advance(1_233);
    await flush(client, connection); // nothing but the ping came
    clock.advance(1);
    const again = await connection.expect('80');
    assert.equal(again.clientMsgId, 'id-1');
    connection.answer(again);
    await sent;
  });

  it('that is refused for good fails with the code', async (t) => {
    const { client, server } = await fake(t);
    client.connect();
    const connection = await server.login();
    for (const code of [303, 306, 402, 410, 604, 607]) {
      const sent = client.sendText('bob', 'hi');
      connection.answer(await connection.expect('80'), { code, message: 'no' });
      await assert.rejects(sent, (error) => error instanceof ServerError && error.code === code);
    }
  });

  it('fails when there is no answer in time, and is not sent again', async (t) => {
    const { client, server, clock } = await fake(t);
    client.connect();
    const connection = await server.login();
    const sent = client.send({ to: 'bob', content: 'hi', timeoutMs: 5_000 });
    await connection.expect('80');
    clock.advance(4_999);
    assert.equal(client.unanswered, 1);
    clock.advance(1);
    await assert.rejects(sent, { name: 'TimeoutError', clientMsgId: 'id-1' });
    assert.equal(client.unanswered, 0);
  });

  it('is given up with its signal', async (t) => {
    const { client } = await fake(t);
    const abort = new AbortController();
    const sent = client.send({ to: 'bob', content: 'hi', signal: abort.signal });
    abort.abort(new Error('changed my mind'));
    await assert.rejects(sent, /changed my mind/);
    await assert.rejects(client.send({ to: 'bob', content: 'hi', signal: abort.signal }), /changed my mind/);
    assert.equal(client.unanswered, 0);
  });

  it('that is too large is refused here, because the server would close the connection', async (t) => {
    const { client } = await fake(t, { maxFrameBytes: 1_000 });
    await assert.rejects(client.sendText('bob', '字'.repeat(330)), { name: 'ServerError', code: 600 });
    await assert.rejects(client.send({ to: 'bob', content: undefined }), { name: 'TypeError' });
  });

  it('that the server finds too large does not cost the next connection as well', async (t) => {
    const { client, server, states, clock } = await fake(t);
    client.connect();
    const before = await server.login();
    const small = client.sendText('bob', 'small');
    const large = client.sendText('bob', 'large'.repeat(1_000));
    await before.expect('80');
    await before.expect('80');
    before.send({ type: '0', code: 600, message: 'the frame is too large' });
    before.close(4600);
    await assert.rejects(large, { name: 'ServerError', code: 600 });
    clock.advance((await until(states, 'waiting')).delayMs);
    const after = await server.login();
    after.answer(await after.expect('80'));
    await small;
  });

  it('is refused when too many wait', async (t) => {
    const { client } = await fake(t, { maxUnanswered: 2, maxUnansweredBytes: 10_000 });
    const waiting = [client.sendText('bob', '1')];
    await assert.rejects(client.sendText('bob', 'x'.repeat(10_000)), { name: 'TooManyWaitingError' });
    waiting.push(client.sendText('bob', '2'));
    await assert.rejects(client.sendText('bob', '3'), { name: 'TooManyWaitingError' });
    client.close();
    for (const sent of waiting) {
      await assert.rejects(sent, { name: 'ClosedError' });
    }
  });

  it('cannot have the id of one that waits', async (t) => {
    const { client } = await fake(t);
    client.send({ to: 'bob', content: 1, clientMsgId: 'x' }).catch(() => {});
    await assert.rejects(client.send({ to: 'carol', content: 1, clientMsgId: 'x' }), { name: 'TypeError' });
  });
});

describe('many messages', { timeout }, () => {
  const unpaced = {
    maxMessagesPerSecond: Number.POSITIVE_INFINITY,
    maxBytesPerSecond: Number.POSITIVE_INFINITY,
  };

  it('are sent no faster than the server allows, in their order', async (t) => {
    const { client, server, clock } = await fake(t, { maxMessagesPerSecond: 50 });
    client.connect();
    const connection = await server.login();
    const sent = Array.from({ length: 60 }, (_, i) => client.sendText('bob', String(i)));
    for (let i = 1; i <= 50; i++) {
      connection.answer(await connection.expect('80'));
    }
    await Promise.all(sent.slice(0, 50));
    for (let i = 51; i <= 60; i++) {
      clock.advance(19);
      await flush(client, connection);
      clock.advance(1);
      const frame = await connection.expect('80');
      assert.equal(frame.clientMsgId, `id-${i}`);
      connection.answer(frame);
      await sent[i - 1];
    }
  });

  it('are sent no faster than their bytes allow, and a large one does not wait for ever', async (t) => {
    const { client, server, clock } = await fake(t, { maxBytesPerSecond: 10_000 });
    client.connect();
    const connection = await server.login();
    const sent = ['first', 'second'].map((text) => client.sendText('bob', text.padEnd(20_000)));
    connection.answer(await connection.expect('80'));
    await sent[0];
    clock.advance(2_000);
    await flush(client, connection);
    clock.advance(100);
    connection.answer(await connection.expect('80'));
    await sent[1];
  });

  it('are 64 under way at most', async (t) => {
    const { client, server } = await fake(t, unpaced);
    client.connect();
    const connection = await server.login();
    const sent = Array.from({ length: 100 }, (_, i) => client.sendText('bob', String(i)));
    const frames = [];
    for (let i = 0; i < 64; i++) {
      frames.push(await connection.expect('80'));
    }
    await flush(client, connection);
    for (const frame of frames) {
      connection.answer(frame);
    }
    for (let i = 64; i < 100; i++) {
      connection.answer(await connection.expect('80'));
    }
    await Promise.all(sent);
  });

  it('are 128 KiB under way at most', async (t) => {
    const { client, server } = await fake(t, unpaced);
    client.connect();
    const connection = await server.login();
    const sent = Array.from({ length: 4 }, () => client.sendText('bob', 'x'.repeat(60_000)));
    const frames = [await connection.expect('80'), await connection.expect('80')];
    await flush(client, connection);
    for (const frame of frames) {
      connection.answer(frame);
    }
    connection.answer(await connection.expect('80'));
    connection.answer(await connection.expect('80'));
    await Promise.all(sent);
  });

  it('are sent more slowly when the server says that they come too fast', async (t) => {
    const { client, server, clock } = await fake(t, unpaced);
    client.connect();
    const connection = await server.login();
    const sent = Array.from({ length: 64 }, (_, i) => client.sendText('bob', String(i)));
    for (let i = 0; i < 64; i++) {
      connection.answer(await connection.expect('80'), { code: 601, delayMs: 700 + i });
    }
    await flush(client, connection);
    clock.advance(762);
    await flush(client, connection); // nothing is sent before the longest delay is over
    clock.advance(1);
    for (let i = 0; i < 32; i++) {
      const frame = await connection.expect('80');
      assert.equal(frame.clientMsgId, `id-${i + 1}`);
      if (i === 31) {
        await flush(client, connection); // 32 under way, not 64
      }
      connection.answer(frame);
    }
    for (let i = 32; i < 64; i++) {
      connection.answer(await connection.expect('80'));
    }
    await Promise.all(sent);
  });
});

describe('groups, broadcasts and lists', { timeout }, () => {
  it('are frames with ids that the answers repeat', async (t) => {
    const { client, server } = await fake(t);
    client.connect();
    const connection = await server.login();

    const created = client.groups.create('team', ['bob', 'carol']);
    const create = await connection.expect('84');
    assert.deepEqual(create, {
      type: '84',
      action: 'create',
      groupId: 'team',
      users: ['bob', 'carol'],
      requestId: create.requestId,
    });
    connection.send({
      type: '85',
      code: 200,
      groupId: 'team',
      owner: 'alice',
      count: 3,
      requestId: create.requestId,
    });
    assert.deepEqual(await created, { id: 'team', owner: 'alice', count: 3 });

    const members = client.groups.members('team', { limit: 2 });
    const list = await connection.expect('84');
    assert.equal(list.action, 'members');
    assert.equal(list.limit, 2);
    connection.send({
      type: '85',
      code: 200,
      groupId: 'team',
      users: ['alice', 'bob'],
      count: 3,
      cursor: 'c',
      requestId: list.requestId,
    });
    assert.deepEqual(await members, { users: ['alice', 'bob'], count: 3, cursor: 'c' });

    const again = client.groups.create('team');
    const { requestId } = await connection.expect('84');
    connection.send({ type: '85', code: 409, message: 'the group exists', requestId });
    await assert.rejects(again, { name: 'ServerError', code: 409 });

    const sent = client.send({ group: 'team', content: 'hi' });
    const chat = await connection.expect('82');
    assert.equal(chat.groupId, 'team');
    connection.answer(chat);
    assert.equal((await sent).code, 200);

    const everybody = client.send({ everyone: true, content: 'hi' });
    connection.answer(await connection.expect('86'), { code: 201, gateways: 3, reached: 2 });
    const { code, gateways, reached } = await everybody;
    assert.deepEqual({ code, gateways, reached }, { code: 201, gateways: 3, reached: 2 });

    const online = client.online({ cursor: 'x' });
    const question = await connection.expect('58');
    assert.equal(question.cursor, 'x');
    connection.send({ type: '59', code: 200, users: ['alice'], count: 1, requestId: question.requestId });
    assert.deepEqual(await online, { users: ['alice'], count: 1, cursor: undefined });
  });

  it('fail when the connection ends before the answer, because nobody knows what happened', async (t) => {
    const { client, server } = await fake(t);
    client.connect();
    const connection = await server.login();
    const created = client.groups.create('team');
    await connection.expect('84');
    connection.terminate();
    await assert.rejects(created, { name: 'ConnectionLostError' });
  });

  it('wait for a connection, but not for ever', async (t) => {
    const { client, clock } = await fake(t);
    const created = client.groups.create('team');
    const bounded = Array.from({ length: 255 }, () => client.online());
    await assert.rejects(client.online(), { name: 'TooManyWaitingError' });
    clock.advance(15_000);
    for (const call of [created, ...bounded]) {
      await assert.rejects(call, { name: 'TimeoutError' });
    }
  });
});

describe('a refusal that no promise waits for', { timeout }, () => {
  it('is an error event', async (t) => {
    const { client, server, errors } = await fake(t);
    client.connect();
    const connection = await server.login();
    connection.send({ type: '0', code: 404, message: 'type "99" is not known' });
    const error = await errors.next();
    assert.ok(error instanceof ServerError && error.code === 404);
  });
});
