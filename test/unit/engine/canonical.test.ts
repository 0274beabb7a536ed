import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson, MAX_JSON_DEPTH, parseBoundedJson } from '../../../src/engine/canonical.ts';

const encode = (text: string) => new TextEncoder().encode(text);

describe('canonical JSON', () => {
  it('is JSON of the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
      { seed: 11 },
    );
  });

  it('sorts keys by code unit and leaves undefined members out', () => {
    expect(canonicalJson({ b: 1, a: undefined, B: [true, null], ä: 'x' })).toBe('{"B":[true,null],"b":1,"ä":"x"}');
  });

  it.each([Number.NaN, Infinity, 1n, () => 0, [undefined]])('refuses what JSON can not hold: %s', (value) => {
    expect(() => canonicalJson(value)).toThrow('has no JSON form');
  });

  it('refuses a value that contains itself', () => {
    const loop: unknown[] = [];
    loop.push(loop);
    expect(() => canonicalJson(loop)).toThrow('nests deeper');
  });

  it('reads back whatever it writes, at the depth limit too', () => {
    let nested: unknown = 1;
    for (let depth = 0; depth < MAX_JSON_DEPTH; depth++) nested = [nested];
    expect(parseBoundedJson(encode(canonicalJson(nested)))).toEqual(nested);
    expect(() => canonicalJson([nested])).toThrow('nests deeper');
  });

  it('does not count brackets inside strings', () => {
    const value = { text: '[{'.repeat(1000), quote: '\\"[[' };
    expect(parseBoundedJson(encode(JSON.stringify(value)))).toEqual(value);
  });

  it('refuses broken UTF-8', () => {
    expect(() => parseBoundedJson(Uint8Array.of(0x22, 0xff, 0x22))).toThrow('not valid');
  });
});
