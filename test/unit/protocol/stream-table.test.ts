import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StreamTable } from '../../../sdk/protocol/stream-table.ts';

const HIGHEST = 0xffff_fffe;
/** Close together as a counter's are, and apart as those are of a stream that stays open while millions pass. */
const stream = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.constantFrom(65_537, 131_073, 2 ** 31 + 1, HIGHEST),
);
const step = fc.record({ kind: fc.constantFrom('set', 'delete', 'get', 'clear'), stream });

describe('open streams by number', () => {
  it('are found, counted and listed as in a Map', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const table = new StreamTable<{ readonly at: number }>();
        const model = new Map<number, { readonly at: number }>();
        for (const [at, { kind, stream: number }] of steps.entries()) {
          const value = { at };
          if (kind === 'set') {
            table.set(number, value);
            model.set(number, value);
          } else if (kind === 'delete') expect(table.delete(number)).toBe(model.delete(number));
          else if (kind === 'clear' && at % 10 === 0) {
            table.clear();
            model.clear();
          }
          expect(table.get(number)).toBe(model.get(number));
          expect(table.has(number)).toBe(model.has(number));
          expect(table.size).toBe(model.size);
        }
        expect(new Set(table.values())).toEqual(new Set(model.values()));
      }),
    );
  });

  it('may be ended while they are listed, also when others begin meanwhile', () => {
    const table = new StreamTable<{ readonly number: number }>();
    for (let number = 1; number <= 8; number++) table.set(number, { number });
    const seen: number[] = [];
    for (const { number } of table.values()) {
      seen.push(number);
      table.delete(number);
      table.delete(8);
      for (let more = 100; more < 200; more++) table.set(more, { number: more });
    }
    expect(seen).not.toContain(8);
    expect(seen.filter((number) => number < 8)).toHaveLength(
      new Set(seen.filter((number) => number < 8)).size,
    );
    for (let number = 100; number < 200; number++) expect(table.get(number)).toEqual({ number });
  });
});
