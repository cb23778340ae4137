import { expect, test } from 'vitest';
import {
  createSecret,
  formatJoinToken,
  hashSecret,
  isSameSecret,
  parseJoinToken,
} from '../../../infra/swarm/join-token.ts';

test('a token is read as it was written, also with dashes in both parts', () => {
  for (let i = 0; i < 200; i++) {
    const token = { caDigest: createSecret(), secret: createSecret() };
    expect(parseJoinToken(` ${formatJoinToken(token)}\n`)).toEqual(token);
  }
});

test('what is no token is refused without being repeated', () => {
  const good = formatJoinToken({ caDigest: createSecret(), secret: createSecret() });
  for (const text of [
    '',
    'SWMTKN-1-a-b',
    good.slice(1),
    good.slice(0, -1),
    `${good}x`,
    good.replace('-1-', '-2-'),
  ]) {
    expect(() => parseJoinToken(text)).toThrow(/a join token is/);
    try {
      parseJoinToken(text);
    } catch (error) {
      if (text.length > 20) expect(String(error)).not.toContain(text.slice(9, 30));
    }
  }
});

test('a secret is known by its hash', () => {
  const secret = createSecret();
  expect(isSameSecret(secret, hashSecret(secret))).toBe(true);
  expect(isSameSecret(createSecret(), hashSecret(secret))).toBe(false);
  expect(isSameSecret('', hashSecret(secret))).toBe(false);
  expect(isSameSecret(secret, '')).toBe(false);
});
