import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Code } from '@imcluster/client';
import {
  decodeFrame,
  encodeFrame,
  FrameType,
  GroupAction,
  numberFields,
  SubscriptionAction,
  textFields,
} from '../../dist/frames.js';

/** The part of a JSON Schema of frames that matters here. */
interface Schema {
  $defs: Record<string, { properties?: Record<string, { type?: string | string[] }> }>;
}

/** Returns a file of package api/wire. */
function readWire(file: string): string {
  return readFileSync(new URL(`../../../../api/wire/${file}`, import.meta.url), 'utf8');
}

/** Returns the groups of all matches in a source of package api/wire. */
function inWire(file: string, pattern: RegExp): string[][] {
  return [...readWire(file).matchAll(pattern)].map((match) => match.slice(1));
}

/** Returns names and numbers as the TypeScript tables have them. */
function table(rows: string[][]): Record<string, number> {
  return Object.fromEntries(rows.map(([name = '', value]) => [name, Number(value)]));
}

describe('the tables of this client are those of the server', () => {
  it('as to codes', () => {
    assert.deepEqual(Code, table(inWire('codes.go', /^\tCode(\w+)\s+Code = (\d+)/gm)));
  });

  it('as to frame types', () => {
    assert.deepEqual(FrameType, table(inWire('frame.go', /^\tType(\w+)\s+Type = (\d+)/gm)));
  });

  it('as to group actions', () => {
    const actions = Object.fromEntries(inWire('frame.go', /^\tGroup(\w+)\s+= "(\w+)"/gm));
    assert.deepEqual(GroupAction, actions);
  });

  it('as to actions of subscriptions', () => {
    const actions = Object.fromEntries(inWire('frame.go', /^\t(Subscribe|Unsubscribe|Replace)\s+= "(\w+)"/gm));
    assert.deepEqual(SubscriptionAction, actions);
  });

  it('as to fields and their kinds', () => {
    const fields: Record<string, string> = {};
    for (const side of ['client', 'server']) {
      const schema = JSON.parse(readWire(`v1/${side}.schema.json`)) as Schema;
      delete schema.$defs.Presence; // is no frame
      for (const { properties = {} } of Object.values(schema.$defs)) {
        for (const [name, { type }] of Object.entries(properties)) {
          const kinds = [type ?? 'anything'].flat(); // null is an absent field
          fields[name] = kinds.find((kind) => kind !== 'null') ?? '';
        }
      }
    }
    delete fields.type;
    const ours: Record<string, string> = {
      users: 'array',
      presence: 'array',
      redelivered: 'boolean',
      degraded: 'boolean',
      content: 'anything',
    };
    for (const name of textFields) {
      ours[name] = 'string';
    }
    for (const name of numberFields) {
      ours[name] = 'integer';
    }
    assert.deepEqual(ours, fields);
  });
});

describe('a frame', () => {
  it('has its type as a text, and accepts both', () => {
    assert.equal(encodeFrame({ type: 40 }), '{"type":"40"}');
    assert.deepEqual(decodeFrame('{"type":"41"}'), { type: 41 });
    assert.deepEqual(decodeFrame('{"type":41}'), { type: 41 });
  });

  it('loses what is not known or not of its kind', () => {
    const text = '{"type":"80","msgId":7,"time":"now","users":["a",1],"content":null,"new":true,"redelivered":1}';
    assert.deepEqual(decodeFrame(text), { type: 80, users: ['a'], content: null });
  });

  it('is an object with a type', () => {
    for (const text of ['', '{', 'null', '[]', '"x"', '{}', '{"type":null}', '{"type":"x"}', '{"type":""}']) {
      assert.equal(decodeFrame(text), undefined, text);
    }
  });

  it('cannot change what objects are', () => {
    const frame = decodeFrame('{"type":"80","__proto__":{"msgId":"x"},"content":{"__proto__":{"evil":true}}}');
    assert.equal(frame?.msgId, undefined);
    assert.equal(Object.getPrototypeOf(frame), Object.prototype);
  });
});
