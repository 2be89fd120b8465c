import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type DevPlatform, startDev } from '../support/platform.js';
import { root } from '../support/process.js';

const timeout = 60_000;

describe('the WebSocket of Node.js itself', { timeout }, () => {
  let platform: DevPlatform;
  before(async () => {
    platform = await startDev();
  });
  after(() => platform?.stop());

  it('is good enough', async () => {
    const program = `
      import { Client } from '@imcluster/client';
      const [url] = process.argv.slice(1);
      let done;
      const received = new Promise((resolve) => { done = resolve; });
      const bob = new Client({ url, token: 'bob', onMessage: (message) => done(message) });
      const alice = new Client({ url, token: 'alice' });
      await Promise.all([alice.connect(), bob.connect()]);
      await alice.sendText('bob', '你好');
      const kicked = new Promise((resolve) => alice.on('state', resolve));
      const again = new Client({ url, token: 'alice' });
      await again.connect();
      await kicked;
      console.log((await received).text, alice.state.status, alice.state.reason.kicked);
      await Promise.all([again.logOut(), bob.logOut()]);
    `;
    // Node.js has it from version 22 on, and 20 behind a flag.
    const flags = typeof globalThis.WebSocket === 'function' ? [] : ['--experimental-websocket'];
    const args = [...flags, '--input-type=module', '--eval', program, platform.gateways[0]];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: `${root}/client/js`, timeout: 20_000 });
    assert.equal(stdout, '你好 closed true\n');
  });
});
