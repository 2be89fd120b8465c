import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Client } from '@imcluster/client';
import { WebSocket } from 'ws';
import { gatewayURL } from '../../dist/socket.js';

describe('the address of a gateway', () => {
  it('is that of a WebSocket, at /ws', () => {
    for (const [given, used] of [
      ['wss://chat.example.com', 'wss://chat.example.com/ws'],
      ['wss://chat.example.com/', 'wss://chat.example.com/ws'],
      ['https://chat.example.com/im', 'wss://chat.example.com/im'],
      ['http://127.0.0.1:8081', 'ws://127.0.0.1:8081/ws'],
      ['ws://[::1]:8081/ws?x=1', 'ws://[::1]:8081/ws?x=1'],
    ] as const) {
      assert.equal(gatewayURL(given), used);
    }
  });

  it('is refused if it is none', () => {
    assert.throws(() => gatewayURL('chat.example.com'), /is not a URL/);
    assert.throws(() => gatewayURL('ftp://chat.example.com'), /wss:/);
  });
});

describe('options that cannot work', () => {
  const good = { url: 'ws://127.0.0.1', token: 'alice', WebSocket };
  it('are refused at once', () => {
    assert.throws(() => new Client({ ...good, url: [] }), /url/);
    assert.throws(() => new Client({ ...good, minDelayMs: 0 }), /minDelayMs/);
    assert.throws(() => new Client({ ...good, maxUnanswered: Number.NaN }), /maxUnanswered/);
  });

  it('are those without a WebSocket where there is none', (t) => {
    const own = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket');
    t.after(() => own && Object.defineProperty(globalThis, 'WebSocket', own));
    Reflect.deleteProperty(globalThis, 'WebSocket');
    assert.throws(() => new Client({ url: 'ws://127.0.0.1', token: 'alice' }), /npm install ws/);
  });

  it('are a URL that the environment refuses', async () => {
    class Refusing {
      constructor() {
        throw new Error('mixed content');
      }
    }
    const client = new Client({ ...good, WebSocket: Refusing as unknown as typeof WebSocket });
    await assert.rejects(client.connect(), /mixed content/);
    assert.equal(client.state.status, 'closed');
  });
});
