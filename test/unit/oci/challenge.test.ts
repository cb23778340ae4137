import { expect, test } from 'vitest';
import { tryParseChallenge } from '../../../infra/oci/transfer/auth.ts';

test('reads a Bearer challenge with quoted commas and escapes', () => {
  const header =
    'Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push",note="say \\"hi\\""';
  expect(tryParseChallenge(header)).toEqual({
    scheme: 'bearer',
    parameters: {
      realm: 'https://auth.test/token',
      service: 'registry.test',
      scope: 'repository:a/b:pull,push',
      note: 'say "hi"',
    },
  });
});

test('reads a Basic challenge in any case and spacing', () => {
  expect(tryParseChallenge('bAsIc  Realm = "x"')).toEqual({ scheme: 'basic', parameters: { realm: 'x' } });
  expect(tryParseChallenge('Basic')).toEqual({ scheme: 'basic', parameters: {} });
});

test('knows no other scheme', () => {
  expect(tryParseChallenge('Negotiate abc')).toBeUndefined();
  expect(tryParseChallenge('')).toBeUndefined();
});
