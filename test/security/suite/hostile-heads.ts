/** Heads of answers as a hostile guest may write them: one client gets one answer, and no line of it is the function's. */
import { connect } from 'node:net';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Client } from '../../../sdk/client/index.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import { functionFixture } from '../../helpers/fixtures.ts';

/** In JSON `x-p` is exchanged for the same number of bytes. */
const value = (to: string): { from: string; to: string } => ({
  from: `"${'p'.repeat(60)}"`,
  to: `${`"${to}`.padEnd(61, 'q')}"`,
});
const name = (to: string): { from: string; to: string } => ({
  from: '"x-stand-in-for-some-name"',
  to: to.padEnd(26),
});
const status = (to: string): { from: string; to: string } => ({ from: '"status":200', to: `"status":${to}` });

const EXCHANGED = { 'x-stand-in-for-some-name': 'p'.repeat(60) };

const FORGED: [string, { from: string; to: string }][] = [
  ['a line break and a header in a value', value(String.raw`a\r\nset-cookie: stolen=1\r\n`)],
  ['a bare line feed in a value', value(String.raw`a\nset-cookie: stolen=1`)],
  ['a bare carriage return in a value', value(String.raw`a\rset-cookie: stolen=1`)],
  ['a second answer in a value', value(String.raw`a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n`)],
  ['a zero byte in a value', value(String.raw`a\u0000b`)],
  ['letters that are no bytes in a value', value(String.raw`\u4e2d\u010a\u010d`)],
  ['a line break in a name', name(String.raw`"x\r\nset-cookie"`)],
  ['a colon in a name', name('"set-cookie: a=1; b"')],
  ['a blank in a name', name('"content-length "')],
  ['no name', name('""')],
  ['a name that is a number', name('1234567890')],
  ['status 101', status('101')],
  ['status 100', status('100')],
  ['status 099', status('99 ')],
  ['status 000', status('0  ')],
  ['status 999', status('999')],
  ['a status that is negative', status('-20')],
  ['a status that is text', status('"2"')],
  ['headers that are no list', { from: '"headers":[[', to: '"headers":[{' }],
  ['headers that are a text', { from: '"headers":[[', to: '"headers":"[' }],
];

/** Names that are the platform's or the connection's: exchanged for `x-stand-in-for-some-name`, they are left out. */
const TAKEN_OUT = [
  'transfer-encoding',
  'connection',
  'keep-alive',
  'upgrade',
  'trailer',
  'te',
  'proxy-connection',
  'skiff-invocation-id',
  'skiff-deployment',
  'skiff-cause',
];

export function defineHostileHeads(ground: () => { readonly client: Client; readonly url: string }): void {
  describe('E9: heads that a hostile guest writes', () => {
    beforeAll(async () => {
      const { files, entry } = findSource(functionFixture('forger.ts'));
      await ground().client.deploy('forger', { source: () => packSource(files), entry });
    });

    /** A forged call and an honest one behind it, on one connection. */
    function ask(wish: object): Promise<string> {
      const { hostname, port } = new URL(ground().url);
      const body = JSON.stringify(wish);
      const head = `POST /f/forger HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
      const socket = connect(Number(port), hostname);
      return new Promise((resolve) => {
        let answer = '';
        let isAsked = false;
        const timer = setTimeout(() => socket.destroy(), 20_000);
        socket.on('data', (chunk) => {
          answer += chunk.toString('latin1');
          // Behind the whole first answer, so that both cannot run in one sandbox that is about to be ended.
          if (isAsked || !answer.includes('\r\n\r\n')) return;
          isAsked = true;
          socket.write('GET /f/forger HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
        });
        socket.on('error', () => {});
        socket.on('close', () => (clearTimeout(timer), resolve(answer)));
        socket.write(head + body);
      });
    }

    const statuses = (answer: string): number[] =>
      [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => Number(match[1]));

    it.each(FORGED)('E9: a head with %s', async (_what, swap) => {
      expect(swap.to.length).toBe(swap.from.length);
      const answer = await ask({ ...swap, headers: EXCHANGED });
      expect(answer).not.toMatch(/^set-cookie|stolen=1\r?$/im);
      expect(statuses(answer)).toEqual([500, 200]);
      expect(answer).toContain('skiff-cause: handler_error');
      expect(answer.endsWith('honest')).toBe(true);
    });

    it.each(TAKEN_OUT)('E9: a head with %s keeps the rest', async (taken) => {
      const swap = name(`"${taken}"`);
      const answer = await ask({ ...swap, headers: { ...EXCHANGED, 'x-kept': 'yes' } });
      expect(statuses(answer)).toEqual([200, 200]);
      expect(answer).toContain('x-kept: yes');
      expect(answer).not.toContain('p'.repeat(60));
    });

    it.each([
      ['two lengths', '6', '99', 500],
      ['two equal lengths', '6', '6', 500],
      ['a length that is no number', '0x6', undefined, 500],
      ['a length with a sign', '+6', undefined, 500],
      ['a list of lengths', '6, 6', undefined, 500],
      ['its length', '6', undefined, 200],
    ])('E9: a streamed body and %s', async (_what, first, second, expected) => {
      const headers = { 'content-length': first, ...(second !== undefined && { 'x-content-len2': second }) };
      const swap = second === undefined ? {} : { from: '"x-content-len2"', to: '"content-length"' };
      const answer = await ask({ ...swap, headers, isStream: true });
      expect(statuses(answer)).toEqual([expected, 200]);
    });

    it.each([
      ['one header of a megabyte', { 'x-long': 'l'.repeat(1024 * 1024) }],
      ['ten thousand headers', Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`x-${i}`, 'v']))],
    ])('E9: %s', async (_what, headers) => {
      const [first, second] = statuses(await ask({ headers }));
      expect(first).toBeGreaterThanOrEqual(500);
      expect(second).toBe(200);
    });
  });
}
