import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from '@imcluster/client';
import { WebSocket } from 'ws';
import { system } from '../../dist/environment.js';
import { UnreliableGateway } from '../support/unreliable-gateway.js';

const timeout = 20_000;
const schedules = Number(process.env.SCHEDULES ?? 40);
const firstSeed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9));

/** Random numbers that a seed decides: mulberry32, by Tommy Ettinger. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Sends and receives through a gateway on which nothing can be relied but what the protocol promises. */
async function runSchedule(seed: number): Promise<void> {
  const chance = generator(seed);
  const mail = Array.from({ length: 30 }, (_, i) => `mail-${i}`);
  const gateway = await UnreliableGateway.start(mail, chance);
  const handled: string[] = [];
  let failures = 0;
  const client = new Client(
    {
      url: gateway.url,
      token: 'alice',
      WebSocket,
      minDelayMs: 1,
      maxDelayMs: 4,
      maxWaitingMessages: chance() < 0.3 ? 5 : 1_000,
      onMessage: async ({ id }) => {
        if (chance() < 0.1) {
          await delay(2);
        }
        if (chance() < 0.1) {
          failures++;
          throw new Error('not now');
        }
        handled.push(id);
      },
    },
    { ...system, random: chance },
  );
  client.on('error', () => {});
  try {
    void client.connect();
    const sent = Array.from({ length: 50 }, (_, i) => client.send({ to: 'bob', content: i, clientMsgId: `sent-${i}` }));
    const receipts = await Promise.all(sent);
    while (gateway.unacknowledged > 0) {
      await delay(2);
    }
    const ids = receipts.map(({ msgId }) => msgId);
    assert.deepEqual(
      ids,
      sent.map((_, i) => `m-sent-${i}`),
      'a receipt for each message',
    );
    assert.equal(gateway.stored.length, sent.length);
    assert.deepEqual(handled.toSorted(), mail.toSorted(), 'each message handled once');
    if (failures === 0) {
      assert.deepEqual(handled, mail, 'in order');
    }
  } finally {
    client.close();
    await gateway.stop();
  }
}

describe('whatever breaks, each message is stored once, and each is handled once', () => {
  for (let seed = firstSeed; seed < firstSeed + schedules; seed++) {
    it(`SCHEDULES=1 SEED=${seed}`, { timeout }, () => runSchedule(seed));
  }
});
