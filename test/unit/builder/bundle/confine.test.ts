import fc from 'fast-check';
import { expect, test } from 'vitest';
import { negatePrefixes } from '../../../../builder/bundle/confine.ts';

test('matches exactly the texts that begin with none of the prefixes', () => {
  const part = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '-', '[', '\\', 'é'), maxLength: 6 });
  fc.assert(
    fc.property(
      fc.array(
        part.filter((text) => text !== ''),
        { minLength: 1, maxLength: 4 },
      ),
      part,
      (prefixes, rest) => {
        const pattern = new RegExp(`^${negatePrefixes(prefixes)}`);
        for (const text of [
          rest,
          ...prefixes,
          ...prefixes.map((prefix) => prefix + rest),
          ...prefixes.map((prefix) => prefix.slice(0, -1)),
        ]) {
          expect(pattern.test(text), `${JSON.stringify(text)} against ${JSON.stringify(prefixes)}`).toBe(
            !prefixes.some((prefix) => text.startsWith(prefix)),
          );
        }
      },
    ),
  );
});
