import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type DevPlatform, startDev } from '../support/platform.js';
import { root } from '../support/process.js';

const timeout = 60_000;

describe('the snippets of the README', { timeout }, () => {
  const directory = join(root, 'client/js/build/readme'); // inside the package, so that they find it by its name
  let platform: DevPlatform;
  before(async () => {
    platform = await startDev();
    await mkdir(directory, { recursive: true });
  });
  after(() => platform?.stop());

  it('do what they say', async () => {
    const readme = await readFile(join(root, 'client/js/README.md'), 'utf8');
    const snippets = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code = '']) => code);
    assert.equal(snippets.length, 5);
    for (const [i, snippet] of snippets.entries()) {
      const path = join(directory, `${i}.mjs`);
      await writeFile(
        path,
        snippet
          .replaceAll('ws://127.0.0.1:8081', platform.gateways[0])
          .replaceAll('ws://127.0.0.1:8082', platform.gateways[1])
          .replaceAll('http://127.0.0.1:8080', platform.presence),
      );
      const { stdout } = await promisify(execFile)(process.execPath, [path], { timeout: 20_000 });
      const promised = [...snippet.matchAll(/\/\/ → (.*?)(?= \/\/ → |$)/gm)].map(([, text]) => text);
      assert.deepEqual(stdout.trimEnd().split('\n').toSorted(), promised.toSorted(), `snippet ${i + 1}`);
    }
  });
});
