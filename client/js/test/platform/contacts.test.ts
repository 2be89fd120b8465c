import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { Client, Code, type Contact, ServerError } from '@imcluster/client';
import { WebSocket } from 'ws';
import { logIn } from '../support/chatter.js';
import { type DevPlatform, startDev } from '../support/platform.js';
import { Queue } from '../support/queue.js';

const timeout = 60_000;

/** Records the changes that a client is told of. */
function changesOf(client: Client): Queue<Contact> {
  const changes = new Queue<Contact>();
  client.on('presence', (contacts) => {
    for (const contact of contacts) {
      changes.push(contact);
    }
  });
  return changes;
}

/** What matters of contacts, as text. */
function briefly(contacts: Iterable<Contact>): string[] {
  return [...contacts].map(({ user, state, status }) => [user, state, status].filter((part) => part).join(' '));
}

async function watcher(t: TestContext, platform: DevPlatform, user: string) {
  const { client } = await logIn(t, platform.gateways[0], user);
  return { client, changes: changesOf(client) };
}

describe('contacts on a platform', { timeout }, () => {
  let platform: DevPlatform;
  before(async () => {
    platform = await startDev();
  });
  after(() => platform?.stop());

  it('are asked for, watched, and told when they change', async (t) => {
    const bob = await logIn(t, platform.gateways[1], 'bob', { platform: 'web', status: 'away', statusText: 'lunch' });
    assert.deepEqual(bob.client.status, { status: 'away', text: 'lunch' });
    const { client, changes } = await watcher(t, platform, 'alice');
    const { contacts, asOf, degraded } = await client.contacts.query(['carol', 'bob']);
    assert.deepEqual(briefly(contacts), ['carol unknown', 'bob online away']);
    assert.deepEqual(
      [contacts[0]?.reason, contacts[1]?.text, contacts[1]?.platforms],
      ['never_seen', 'lunch', ['web']],
    );
    assert.ok(Math.abs(asOf.getTime() - Date.now()) < 60_000 && !degraded);

    assert.deepEqual(briefly(await client.contacts.subscribe(['bob', 'carol', 'bob'])), [
      'bob online away',
      'carol unknown',
    ]);
    await bob.client.setStatus('busy');
    assert.deepEqual(briefly([await changes.next()]), ['bob online busy']);
    const carol = await logIn(t, platform.gateways[1], 'carol');
    assert.deepEqual(briefly([await changes.next()]), ['carol online online']);
    await bob.client.setStatus('invisible');
    const hidden = await changes.next();
    assert.deepEqual(briefly([hidden]), ['bob offline']);
    assert.ok(hidden.lastSeen instanceof Date);
    await carol.client.logOut();
    assert.deepEqual(briefly([await changes.next()]), ['carol offline']);
    assert.deepEqual(briefly(client.contacts.list.values()), ['bob offline', 'carol offline']);

    assert.deepEqual(briefly(await client.contacts.replace(['dave', 'bob'])), ['dave unknown', 'bob offline']);
    await client.contacts.unsubscribe(['bob']);
    await bob.client.setStatus('online');
    await logIn(t, platform.gateways[0], 'dave');
    assert.deepEqual(briefly([await changes.next()]), ['dave online online']);
    assert.deepEqual([...client.contacts.list.keys()], ['dave']);
  });

  it('over the quota are refused, and change nothing', async (t) => {
    const { client } = await watcher(t, platform, 'erin');
    const many = Array.from({ length: 1001 }, (_, i) => `user-${i}-${'x'.repeat(100)}`);
    await client.contacts.subscribe(['frank']);
    await assert.rejects(
      client.contacts.replace(many),
      (error) => error instanceof ServerError && error.code === Code.TooMuch,
    );
    assert.equal((await client.contacts.replace(many.slice(1))).length, 1000);
    await assert.rejects(client.contacts.subscribe(['one', 'more']), { code: Code.TooMuch });
    assert.equal(client.contacts.list.size, 1000);
    await assert.rejects(client.setStatus('asleep' as 'away'), { code: Code.BadField });
  });

  it('are subscribed to again when the connection was lost, with only the differences told', async (t) => {
    const grace = await logIn(t, platform.gateways[1], 'grace');
    await logIn(t, platform.gateways[1], 'heidi');
    const sockets: WebSocket[] = [];
    class Recorded extends WebSocket {
      constructor(url: string) {
        super(url);
        sockets.push(this);
      }
    }
    const client = new Client({ url: platform.gateways[0], token: 'ivan', WebSocket: Recorded, minDelayMs: 500 });
    t.after(() => client.close());
    await client.connect();
    const changes = changesOf(client);
    await client.contacts.subscribe(['grace', 'heidi', 'judy']);
    sockets[0]?.terminate();
    await grace.client.logOut();
    const added = client.contacts.subscribe(['kim']); // while there is no connection
    assert.deepEqual(briefly([await changes.next()]), ['grace offline']);
    assert.deepEqual(briefly(await added), ['kim unknown']);
    await logIn(t, platform.gateways[1], 'kim');
    assert.deepEqual(briefly([await changes.next()]), ['kim online online']);
    assert.equal(sockets.length, 2);
    assert.deepEqual([...client.contacts.list.keys()], ['grace', 'heidi', 'judy', 'kim']);
  });
});
