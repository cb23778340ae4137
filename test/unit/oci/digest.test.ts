import { describe, expect, test } from 'vitest';
import {
  clip,
  digestHex,
  digestOf,
  parseReference,
  parseRepository,
  parseTagOrDigest,
} from '../../../infra/oci/digest.ts';

const digest = digestOf('x');

describe('names and digests', () => {
  test('a reference is a repository and a digest', () => {
    expect(parseReference(`functions/hello@${digest}`)).toEqual({ repository: 'functions/hello', digest });
  });

  for (const text of [
    'hello',
    'hello:latest',
    `@${digest}`,
    `Hello@${digest}`,
    'hello@sha256:12',
    `a//b@${digest}`,
    `../a@${digest}`,
  ]) {
    test(`refuses the reference ${text.slice(0, 20)}`, () => {
      expect(() => parseReference(text)).toThrow(expect.objectContaining({ name: 'SkiffError' }));
    });
  }

  for (const text of ['', '/a', 'a/', 'a..b/../c', 'a?b', 'a b', 'a%2f', 'a'.repeat(256)]) {
    test(`refuses the repository "${text.slice(0, 20)}"`, () => {
      expect(() => parseRepository(text)).toThrow(expect.objectContaining({ code: 'INVALID_NAME' }));
    });
  }

  test('refuses tags that would change a URL', () => {
    for (const text of ['', '.a', 'a/b', 'a?b', '../x', 'a'.repeat(129)])
      expect(() => parseTagOrDigest(text)).toThrow(/neither a tag/);
    expect(parseTagOrDigest('26-abc')).toBe('26-abc');
  });

  test('a digest becomes a folder name only when it is one', () => {
    expect(digestHex(digest)).toMatch(/^[0-9a-f]{64}$/);
    expect(() => digestHex('sha256:../../etc')).toThrow(/is not a digest/);
  });

  test('clips hostile text for messages', () => {
    expect(clip('a\u001b[31mb\u2028c', 80)).toBe('a?[31mb?c');
    expect(clip('x'.repeat(100), 10)).toBe(`${'x'.repeat(10)}…`);
  });
});
