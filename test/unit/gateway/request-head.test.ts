import type { IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildHeaders, tryBuildUrl, tryParseTarget } from '../../../gateway/invoke/request-head.ts';

function request(rawHeaders: string[], remoteAddress = '::ffff:10.1.2.3'): IncomingMessage {
  const headers: Record<string, string> = {};
  for (let i = 0; i < rawHeaders.length; i += 2)
    headers[(rawHeaders[i] as string).toLowerCase()] = rawHeaders[i + 1] as string;
  return { rawHeaders, headers, socket: { remoteAddress } } as unknown as IncomingMessage;
}

describe('the target of an invocation URL', () => {
  it.each([
    ['/f/hello', 'hello', '/'],
    ['/f/hello/', 'hello', '/'],
    ['/f/hello?a=1', 'hello', '/?a=1'],
    ['/f/hello/a/b?c', 'hello', '/a/b?c'],
    ['/f/hello//x', 'hello', '//x'],
    ['/f/hello/../other', 'hello', '/../other'],
    ['/f/hello/%2e%2e/other', 'hello', '/%2e%2e/other'],
  ])('%s is function %s with path %s', (url, name, path) => {
    expect(tryParseTarget(url)).toEqual({ name, path });
  });

  it.each([
    ['/f/hello@dep-01m86a/x', 'dep-01m86a', '/x'],
    ['/f/hello@staging?a', 'staging', '/?a'],
  ])('%s is version %s', (url, version, path) => {
    expect(tryParseTarget(url)).toEqual({ name: 'hello', version, path });
  });

  it.each([
    '/f/hello@',
    '/f/hello@A',
    '/f/hello@a@b',
    '/f/@a',
    '/f/',
    '/f/../other',
    '/f/a%2fb',
    '/f/A',
    '/f/-a',
    '/f/a-',
    '/v1/functions',
    `/f/${'a'.repeat(64)}`,
    '/f/a b',
  ])('%s is none', (url) => {
    expect(tryParseTarget(url)).toBeUndefined();
  });

  it('no path leads to another function than the one it names', () => {
    fc.assert(
      fc.property(fc.string(), (tail) => {
        const target = tryParseTarget(`/f/mine/${tail}`);
        expect(target?.name).toBe('mine');
      }),
    );
  });
});

describe('what the function sees of the request', () => {
  it('leaves out hop-by-hop headers and those that Connection names', () => {
    const headers = buildHeaders(
      request([
        'Host',
        'a.test',
        'Connection',
        'keep-alive, X-Mine',
        'X-Mine',
        '1',
        'TE',
        'trailers',
        'X-Kept',
        '2',
      ]),
      false,
    );
    const names = headers.map(([name]) => name);
    expect(names).toContain('x-kept');
    for (const gone of ['connection', 'x-mine', 'te']) expect(names).not.toContain(gone);
  });

  it('says who the client is, and believes no client that says so itself', () => {
    const given = request(['Host', 'a.test', 'X-Forwarded-For', '6.6.6.6', 'Skiff-Invocation-Id', 'forged']);
    const headers = Object.fromEntries(buildHeaders(given, false));
    expect(headers['x-forwarded-for']).toBe('10.1.2.3');
    expect(headers['forwarded']).toBe('for=10.1.2.3;host="a.test";proto=http');
    expect(headers).not.toHaveProperty('skiff-invocation-id');
    expect(Object.fromEntries(buildHeaders(given, true))['x-forwarded-for']).toBe('6.6.6.6, 10.1.2.3');
  });

  it('a Host header that is none is refused', () => {
    expect(tryBuildUrl(request(['Host', 'a.test:80']), '/x')).toBe('http://a.test:80/x');
    expect(tryBuildUrl(request(['Host', 'a.test/evil?']), '/x')).toBeUndefined();
    expect(tryBuildUrl(request(['Host', 'user@host']), '/x')).toBeUndefined();
  });
});
