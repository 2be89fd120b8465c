import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { Client, Message } from '@imcluster/client';
import { Browser, type Page } from '../support/browser.js';
import { logIn } from '../support/chatter.js';
import { FakeServer } from '../support/fake-server.js';
import { type DevPlatform, GatewayPair, startDev } from '../support/platform.js';

const timeout = 60_000;

/** What the functions that run in pages find there. */
declare const imcluster: typeof import('@imcluster/client');
declare let chat: { client: Client; received: Message[]; states: string[]; next: () => Promise<Message> };

/** Makes a client in a page, which the page knows as `chat`, and connects it. */
async function logInPage(page: Page, url: string, user: string, minDelayMs = 100): Promise<string> {
  return page.run(
    async ([url, token, minDelayMs]) => {
      const received: Message[] = [];
      const states: string[] = [];
      let wake = () => {};
      const client = new imcluster.Client({
        url,
        token,
        platform: 'web',
        minDelayMs,
        maxDelayMs: 2 * minDelayMs,
        onMessage: (message) => {
          received.push(message);
          wake();
        },
      });
      client.on('state', ({ status }) => states.push(status));
      const next = async () => {
        for (;;) {
          const message = received.shift();
          if (message !== undefined) {
            return message;
          }
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      };
      Object.assign(globalThis, { chat: { client, received, states, next } });
      return (await client.connect()).userId;
    },
    [url, user, minDelayMs] as const,
  );
}

/** Returns the text of the next message that a page receives. */
function nextText(page: Page): Promise<string | undefined> {
  return page.run(async () => (await chat.next()).text, null);
}

/** Waits until the client of a page has a status. */
function until(page: Page, status: string): Promise<string> {
  return page.run(async (status) => {
    while (chat.client.state.status !== status) {
      await new Promise<void>((resolve) => {
        const remove = chat.client.on('state', () => {
          remove();
          resolve();
        });
      });
    }
    const { state } = chat.client;
    return state.status === 'closed' ? String(state.reason) : '';
  }, status);
}

async function openPage(t: TestContext, browser: Browser, path?: string): Promise<Page> {
  const page = await browser.open(path);
  t.after(() => page.close());
  return page;
}

describe('in a browser', { timeout }, () => {
  let browser: Browser;
  let platform: DevPlatform;
  before(async () => {
    browser = await Browser.start();
    platform = await startDev();
  });
  after(async () => {
    await browser?.stop();
    await platform?.stop();
  });

  it('a page chats with Node.js', async (t) => {
    const page = await openPage(t, browser);
    assert.equal(await logInPage(page, platform.gateways[0], 'page'), 'page');
    const node = await logIn(t, platform.gateways[1], 'node');
    await node.client.sendText('page', 'hello page, 你好');
    assert.equal(await nextText(page), 'hello page, 你好');
    await page.run(() => chat.client.sendText('node', 'hello node'), null);
    assert.equal((await node.received.next()).text, 'hello node');
  });

  it('a second tab takes the device over from the first one, which stays away', async (t) => {
    const first = await openPage(t, browser);
    const second = await openPage(t, browser);
    await logInPage(first, platform.gateways[0], 'tabs');
    await logInPage(second, platform.gateways[1], 'tabs');
    assert.match(await until(first, 'closed'), /304/);
    const node = await logIn(t, platform.gateways[1], 'visitor');
    await node.client.sendText('tabs', 'to the second');
    assert.equal(await nextText(second), 'to the second');
    assert.deepEqual(await first.run(() => chat.states, null), ['connecting', 'online', 'closed']);
  });

  it('a page that comes later gets what was sent before', async (t) => {
    const first = await openPage(t, browser);
    await logInPage(first, platform.gateways[0], 'away');
    await first.run(() => chat.client.logOut(), null);
    const node = await logIn(t, platform.gateways[1], 'patient');
    for (const text of ['one', 'two', 'three']) {
      assert.equal((await node.client.sendText('away', text)).code, 200);
    }
    const second = await openPage(t, browser);
    await logInPage(second, platform.gateways[1], 'away');
    assert.deepEqual([await nextText(second), await nextText(second), await nextText(second)], ['one', 'two', 'three']);
  });

  it('a message that comes twice is handled once', async (t) => {
    const server = await FakeServer.start();
    t.after(() => server.close());
    const page = await openPage(t, browser);
    const loggedIn = logInPage(page, server.url, 'page');
    const connection = await server.login({ userId: 'page' });
    await loggedIn;
    const content = { contentType: 1, body: 'once' };
    const message = { type: '80', msgId: '1', fromId: 'bob', toId: 'page', time: 1, content };
    connection.send(message);
    assert.equal((await connection.expect('90')).msgId, '1');
    connection.send({ type: '91', code: 200, msgId: '1' });
    connection.send({ ...message, redelivered: true });
    connection.send({ ...message, msgId: '2', content: { contentType: 1, body: 'last' } });
    assert.equal((await connection.expect('90')).msgId, '1');
    assert.equal((await connection.expect('90')).msgId, '2');
    assert.deepEqual([await nextText(page), await nextText(page)], ['once', 'last']);
  });

  it('a page connects at once when the network is back', async (t) => {
    const server = await FakeServer.start();
    t.after(() => server.close());
    const page = await openPage(t, browser);
    const loggedIn = logInPage(page, server.url, 'page', 3_600_000); // an hour
    const connection = await server.login({ userId: 'page' });
    await loggedIn;
    await page.setNetwork(false);
    connection.terminate();
    await until(page, 'waiting');
    await page.setNetwork(true);
    await server.login({ userId: 'page' });
    await until(page, 'online');
  });

  it('the example page chats', async (t) => {
    const alice = await openPage(t, browser, '/examples/chat.html');
    const bob = await openPage(t, browser, '/examples/chat.html');
    const url = platform.gateways[0];
    for (const [page, user, peer] of [
      [alice, 'alice', 'bob'],
      [bob, 'bob', 'alice'],
    ] as const) {
      await page.run(
        ([url, user, peer]) => {
          const field = (id: string) => document.getElementById(id) as HTMLInputElement;
          field('url').value = url;
          field('user').value = user;
          field('to').value = peer;
          document.querySelector<HTMLFormElement>('#login')?.requestSubmit();
        },
        [url, user, peer] as const,
      );
      await shows(page, '#state', 'online');
    }
    await alice.run(() => {
      (document.getElementById('text') as HTMLInputElement).value = 'hello <b>bob</b>';
      document.querySelector<HTMLFormElement>('#send')?.requestSubmit();
    }, null);
    await shows(bob, '#messages', 'alice: hello <b>bob</b>');
    await shows(alice, '#messages', 'hello <b>bob</b> ✓');
  });
});

/** Waits until an element of a page shows a text. */
async function shows(page: Page, selector: string, text: string): Promise<void> {
  await page.run(
    ([selector, text]) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (document.querySelector(selector)?.textContent?.includes(text)) {
            observer.disconnect();
            resolve();
          }
        };
        const observer = new MutationObserver(look);
        observer.observe(document, { subtree: true, childList: true, characterData: true });
        look();
      }),
    [selector, text] as const,
  );
}

describe('when the gateway of a page is killed', { timeout }, () => {
  let browser: Browser;
  let gateways: GatewayPair;
  before(async () => {
    browser = await Browser.start();
    gateways = await GatewayPair.start();
  });
  after(async () => {
    await browser?.stop();
    await gateways?.stop();
  });

  it('it connects to another one, and everything arrives once', async (t) => {
    const page = await openPage(t, browser);
    gateways.lead(0);
    await logInPage(page, gateways.url, 'page');
    const node = await logIn(t, gateways.urlOf(1), 'node');
    gateways.lead(1);
    const killed = gateways.kill(0);
    const fromNode = Array.from({ length: 20 }, (_, i) => node.client.send({ to: 'page', content: i }));
    const fromPage = page.run(
      () => Promise.all(Array.from({ length: 20 }, (_, i) => chat.client.send({ to: 'node', content: i }))),
      null,
    );
    await Promise.all([killed, fromPage, ...fromNode]);
    for (let i = 0; i < 20; i++) {
      assert.equal((await node.received.next()).content, i);
      assert.equal(await page.run(async () => (await chat.next()).content, null), i);
    }
    await node.client.sendText('page', 'last');
    assert.equal(await nextText(page), 'last');
  });
});
