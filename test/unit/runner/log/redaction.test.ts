import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createRedaction } from '../../../../runner/log/redaction.ts';

it('takes a secret out as it is, and as JSON, base64 and URLs write it', () => {
  const value = 'p"a$$ (word)+/=\\x';
  const redact = createRedaction(new Map([['db', value]]));
  const forms = [
    value,
    JSON.stringify(value),
    Buffer.from(value).toString('base64'),
    encodeURIComponent(value),
  ];
  for (const form of forms)
    expect(redact?.(`before ${form} after`)).toMatch(/^before "?\[secret db\]={0,2}"? after$/);
});

it('takes out each line of a key in several lines', () => {
  const redact = createRedaction(new Map([['key', '-----BEGIN-----\nabcdefgh\n-----END-----']]));
  expect(redact?.('line: abcdefgh')).toBe('line: [secret key]');
});

it('leaves what is too short to be told from ordinary words', () => {
  expect(createRedaction(new Map([['pin', '1234']]))).toBeUndefined();
  expect(createRedaction(new Map())).toBeUndefined();
});

it('never leaves a secret in, wherever it stands', () => {
  const secret = fc.string({ minLength: 6, maxLength: 40 }).filter((text) => text.trim().length >= 6);
  fc.assert(
    fc.property(secret, fc.string(), fc.string(), (value, before, after) => {
      const redact = createRedaction(new Map([['name', value.trim()]]));
      fc.pre(!'[secret name]'.includes(value.trim()));
      expect(
        redact?.(before + value + after)
          .split('[secret name]')
          .join(''),
      ).not.toContain(value.trim() + value.trim());
      expect(redact?.(value)).not.toContain(value.trim());
    }),
  );
});
