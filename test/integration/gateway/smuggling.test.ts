import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HEADERS_COUNT_MAX } from '../../../sdk/protocol/limits.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

/** All that comes back on one connection, and whether the other side ended it. */
function exchange(text: string, msMax = 10_000): Promise<{ answer: string; isClosed: boolean }> {
  const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1');
  return new Promise((resolve) => {
    let answer = '';
    const timer = setTimeout(() => {
      resolve({ answer, isClosed: false });
      socket.destroy();
    }, msMax);
    socket.on('data', (chunk) => (answer += String(chunk)));
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      resolve({ answer, isClosed: true });
    });
    socket.write(Buffer.from(text, 'latin1'));
  });
}

function statuses(answer: string): number[] {
  return [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => Number(match[1]));
}

const HOST = 'Host: x\r\n';
const SECOND = `GET /healthz HTTP/1.1\r\n${HOST}\r\n`;

/** Each could be read in two ways, or is not HTTP/1.1 (RFC 9112). The second request behind it must never be answered. */
const AMBIGUOUS: readonly (readonly [string, string])[] = [
  [
    'both lengths',
    `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  [
    'both lengths, the other way round',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n`,
  ],
  ['two lengths', `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: 0\r\nContent-Length: 5\r\n\r\n`],
  ['a list of lengths', `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: 0, 5\r\n\r\n`],
  ['a length with a sign', `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: +0\r\n\r\n`],
  ['a negative length', `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: -1\r\n\r\n`],
  ['a hexadecimal length', `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: 0x0\r\n\r\n`],
  [
    'a length that overflows',
    `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: 18446744073709551616\r\n\r\n`,
  ],
  [
    'a coding that is not chunked',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
  ],
  [
    'chunked not last',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
  ],
  ['chunked twice', `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`],
  [
    'two codings',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n`,
  ],
  [
    'a vertical tab before the coding',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`,
  ],
  ['a blank before the colon', `POST /healthz HTTP/1.1\r\n${HOST}Content-Length : 0\r\n\r\n`],
  [
    'a blank before the coding\u2019s colon',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
  ],
  ['a folded header', `GET /healthz HTTP/1.1\r\n${HOST}X-A: 1\r\n  folded\r\n\r\n`],
  ['a folded coding', `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`],
  ['a header line that begins with a blank', `GET /healthz HTTP/1.1\r\n X-A: 1\r\n${HOST}\r\n`],
  ['bare line feeds', 'GET /healthz HTTP/1.1\nHost: x\n\n'],
  ['a bare line feed after a header', `GET /healthz HTTP/1.1\r\nX-A: 1\n${HOST}\r\n`],
  ['a bare carriage return in a header', `GET /healthz HTTP/1.1\r\n${HOST}X-A: 1\rX-B: 2\r\n\r\n`],
  ['a zero byte in a header', `GET /healthz HTTP/1.1\r\n${HOST}X-A: 1\x002\r\n\r\n`],
  ['a zero byte in the path', `GET /healthz\x00 HTTP/1.1\r\n${HOST}\r\n`],
  ['a header without a name', `GET /healthz HTTP/1.1\r\n${HOST}: 1\r\n\r\n`],
  ['a header without a colon', `GET /healthz HTTP/1.1\r\n${HOST}X-A\r\n\r\n`],
  ['a blank in a header\u2019s name', `GET /healthz HTTP/1.1\r\n${HOST}X A: 1\r\n\r\n`],
  ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ['two hosts', `GET /healthz HTTP/1.1\r\n${HOST}Host: y\r\n\r\n`],
  ['two hosts that are one', `GET /healthz HTTP/1.1\r\n${HOST}${HOST}\r\n`],
  ['an unknown version', `GET /healthz HTTP/1.2\r\n${HOST}\r\n`],
  ['a version of nine', `GET /healthz HTTP/9.1\r\n${HOST}\r\n`],
  ['no version', `GET /healthz\r\n${HOST}\r\n`],
  [
    'a chunk size that is no number',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n`,
  ],
  [
    'a chunk size with a sign',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n`,
  ],
  ['a chunk size with 0x', `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n`],
  [
    'a chunk size that overflows',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n`,
  ],
  [
    'a chunk longer than it says',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n`,
  ],
  [
    'a bare line feed after a chunk size',
    `POST /healthz HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\n\r\n`,
  ],
];

describe('requests that could be read in two ways', () => {
  it.each(AMBIGUOUS)('%s', async (_name, request) => {
    const { answer, isClosed } = await exchange(request + SECOND);
    const [first, ...more] = statuses(answer);
    // A parser error may come after the head was answered with 405 (the body is the ambiguous part).
    expect([400, 405, undefined]).toContain(first);
    expect(more.filter((status) => status === 200)).toEqual([]);
    expect(isClosed).toBe(true);
  });

  it('the way of looking works: two plain requests get two answers', async () => {
    const { answer } = await exchange(SECOND + SECOND.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    expect(statuses(answer)).toEqual([200, 200]);
  });

  it('a coding with HTTP/1.0 does not open the connection for a second request', async () => {
    const { answer, isClosed } = await exchange(
      `POST /healthz HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SECOND}`,
    );
    expect(statuses(answer)).not.toContain(200);
    expect(isClosed).toBe(true);
  });

  it('a request that was refused while its body was under way ends its connection', async () => {
    const long = 'x'.repeat(9_000);
    const { answer, isClosed } = await exchange(
      `POST /${long} HTTP/1.1\r\n${HOST}Content-Length: 1000\r\n\r\n${SECOND}`,
    );
    expect(statuses(answer)).toEqual([414]);
    expect(isClosed).toBe(true);
  });

  it('each split of a valid request gives the same answer', async () => {
    const request = `GET /healthz HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`;
    for (let at = 1; at < request.length; at += 3) {
      const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1').setNoDelay(true);
      const answer = await new Promise<string>((resolve) => {
        let text = '';
        socket.on('data', (chunk) => (text += String(chunk)));
        socket.on('close', () => resolve(text));
        socket.write(request.slice(0, at), () => setImmediate(() => socket.write(request.slice(at))));
      });
      expect(statuses(answer), `split at ${at}`).toEqual([200]);
    }
  });
});

describe('limits of the head', () => {
  it('more headers than allowed are a 431', async () => {
    const many = Array.from({ length: HEADERS_COUNT_MAX + 1 }, (_, i) => `X-${i}: 1\r\n`).join('');
    const { answer } = await exchange(`GET /healthz HTTP/1.1\r\n${HOST}Connection: close\r\n${many}\r\n`);
    expect(statuses(answer)).toEqual([431]);
  });

  it('a head that does not end in time is answered and closed', async () => {
    const { answer, isClosed } = await exchange(`GET /healthz HTTP/1.1\r\n${HOST}X-Slow: `, 20_000);
    expect(isClosed).toBe(true);
    expect(statuses(answer)[0] ?? 408).toBeGreaterThanOrEqual(400);
  });
});

describe('paths', () => {
  const withoutToken = async (path: string): Promise<number> => {
    const { answer } = await exchange(`GET ${path} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
    return statuses(answer)[0] ?? 0;
  };

  it.each([
    '//v1/functions',
    '/v1//functions',
    '/v1/./functions',
    '/v1/x/../functions',
    '/%76%31/functions',
    '/v1%2ffunctions',
    '/v1/functions/',
    '/v1/functions?x=/healthz',
    '/healthz/../v1/functions',
    '/healthz%2f..%2fv1/functions',
    '/healthz;/v1/functions',
    '\\v1\\functions',
    '/V1/functions',
    'http://x/v1/functions',
    'http://healthz/v1/functions',
  ])('no spelling of a private route opens it without a token: %s', async (path) => {
    expect([400, 401, 404]).toContain(await withoutToken(path));
  });

  it.each([
    '/f/one/../two',
    '/f/one%2f..%2ftwo',
    '/f//two',
    '/f/./two',
    '/f/%2e%2e/v1/functions',
    '/f/../v1/functions',
    '/f/one%00',
    '/f/ONE',
    '/f/',
    '/f/-',
  ])('%s names no other function and no route', async (path) => {
    const { answer } = await exchange(`GET ${path} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
    expect([400, 404, 503]).toContain(statuses(answer)[0]);
    expect(answer).not.toContain('"two"');
    expect(answer).not.toContain('"functions":');
  });
});
