import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LightHeaders } from '../../../sdk/guest/web/light-headers.ts';

const name = fc.constantFrom('a', 'B-c', 'Cookie', 'set-cookie', 'Content-Type', 'x-1');
const value = fc.string({ unit: fc.constantFrom('a', 'b', ' ', ',', '\t', 'é', '=', ';') });
const operation = fc.oneof(
  fc.record({ kind: fc.constantFrom('append' as const, 'set' as const), name, value }),
  fc.record({ kind: fc.constantFrom('delete' as const), name, value }),
);

describe('light headers', () => {
  it('answer as the runtime\u2019s Headers after any operations', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 12 }), (operations) => {
        const light = new LightHeaders();
        const real = new Headers();
        for (const one of operations) {
          for (const headers of [light, real]) {
            if (one.kind === 'delete') headers.delete(one.name);
            else headers[one.kind](one.name, one.value);
          }
        }
        expect([...light]).toEqual([...real]);
        expect(light.getSetCookie()).toEqual(real.getSetCookie());
        for (const asked of ['a', 'b-C', 'cookie', 'set-cookie', 'content-type', 'none']) {
          expect(light.get(asked)).toBe(real.get(asked));
          expect(light.has(asked)).toBe(real.has(asked));
        }
      }),
    );
  });

  it('refuse what the runtime\u2019s Headers refuse', () => {
    for (const init of [
      [['a']],
      [['a b', 'x']],
      { 'a:': 'x' },
      [['a', 'x\ny']],
      'text',
      7,
      null,
      [['a', '\u0100']],
    ]) {
      expect(() => new LightHeaders(init), JSON.stringify(init)).toThrow(TypeError);
      expect(() => new Headers(init as never), JSON.stringify(init)).toThrow(TypeError);
    }
  });

  it('are made from records, pairs and other headers', () => {
    for (const init of [
      undefined,
      {},
      { A: '1', b: ' 2 ' },
      [
        ['a', '1'],
        ['a', '2'],
      ],
      new Headers({ x: 'y' }),
    ]) {
      expect([...new LightHeaders(init)]).toEqual([...new Headers(init as never)]);
    }
  });

  it('are walked with forEach, keys and values', () => {
    const headers = new LightHeaders({ b: '2', a: '1' });
    const seen: string[] = [];
    headers.forEach((text, key) => seen.push(`${key}=${text}`));
    expect(seen).toEqual(['a=1', 'b=2']);
    expect([...headers.keys()]).toEqual(['a', 'b']);
    expect([...headers.values()]).toEqual(['1', '2']);
    expect(Object.prototype.toString.call(headers)).toBe('[object Headers]');
  });
});
