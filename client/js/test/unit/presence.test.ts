import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Presence, PresenceError } from '@imcluster/client';

interface Request {
  method: string;
  url: string;
  key: string | null;
  type: string | null;
  body: string;
}

/** A presence client whose requests are recorded and answered one after the other. */
function answering(...answers: [status: number, body: unknown, headers?: Record<string, string>][]) {
  const requests: Request[] = [];
  const presence = new Presence({
    url: 'http://chat-presence/',
    apiKey: 'key',
    fetch: async (input, init) => {
      const request = new Request(input as string, init);
      requests.push({
        method: request.method,
        url: request.url,
        key: request.headers.get('Authorization'),
        type: request.headers.get('Content-Type'),
        body: await request.text(),
      });
      const [status, body, headers = {}] = answers.shift() ?? [500, ''];
      return new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers });
    },
  });
  return { presence, requests };
}

describe('the presence client', () => {
  it('encodes user ids so that none is a path', async () => {
    const { presence, requests } = answering([200, { user: 'a/b', state: 'online', devices: [] }], [200, {}]);
    assert.equal((await presence.get('a/b 字')).state, 'online');
    await presence.get('..');
    assert.equal(requests[0]?.url, 'http://chat-presence/v1/presence/a%2Fb%20%E5%AD%97');
    assert.equal(requests[0]?.key, 'Bearer key');
  });

  it('asks for many users at once', async () => {
    const { presence, requests } = answering([200, { users: [], asOf: '', degraded: false }]);
    await presence.batchGet(['alice', 'bob']);
    assert.deepEqual(requests[0], {
      method: 'POST',
      url: 'http://chat-presence/v1/presence:batchGet',
      key: 'Bearer key',
      type: 'application/json',
      body: '{"users":["alice","bob"]}',
    });
  });

  it('lists page by page', async () => {
    const { presence, requests } = answering([200, { users: ['a', 'b'], nextCursor: 'x+/=' }], [200, { users: ['c'] }]);
    const users: string[] = [];
    for await (const user of presence.online()) {
      users.push(user);
    }
    assert.deepEqual(users, ['a', 'b', 'c']);
    assert.equal(requests[1]?.url, 'http://chat-presence/v1/online?cursor=x%2B%2F%3D&limit=1000');
  });

  it('says what the service said', async () => {
    const { presence } = answering(
      [503, { error: { code: 'unavailable', message: 'Redis does not answer' } }, { 'Retry-After': '2' }],
      [502, '<html>'],
    );
    await assert.rejects(presence.count(), (error) => {
      assert.ok(error instanceof PresenceError);
      assert.deepEqual([error.status, error.code, error.retryAfterMs], [503, 'unavailable', 2_000]);
      assert.match(error.message, /Redis does not answer/);
      return true;
    });
    await assert.rejects(presence.count(), { status: 502, code: '', retryAfterMs: undefined });
  });

  it('gives up with a signal', async () => {
    const presence = new Presence({ url: 'http://127.0.0.1:1', apiKey: 'key' });
    await assert.rejects(
      presence.count({ signal: AbortSignal.abort(new Error('changed my mind')) }),
      /changed my mind/,
    );
  });
});
