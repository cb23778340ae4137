/** The guest and V8's code cache: made on request, taken by the runtime that made it, refused by any other. */
import { describe, expect, test } from 'vitest';
import { encodeFrame, FrameType } from '../../../sdk/protocol/frame.ts';
import { waitFor } from '../../helpers/wait.ts';
import { GuestDriver, type GuestOptions } from './guest-driver.ts';

/** Some 600 KB, so that compiling it is work. */
const FILLER = Array.from(
  { length: 4_000 },
  (_, i) => `function filler${i}(a) { let sum = ${i}; for (const x of a) sum += x * ${i}; return sum; }\n`,
).join('');
const SOURCE = `${FILLER}
const all = [${Array.from({ length: 4_000 }, (_, i) => `filler${i}`).join(',')}];
exports.default = () => new Response(String(all.reduce((sum, one) => sum + one([1, 2]), 0)));\n`;

async function make(options: Partial<GuestOptions> = {}): Promise<Buffer> {
  await using guest = await GuestDriver.load({ source: SOURCE, ...options });
  await guest.call();
  guest.write(encodeFrame(FrameType.CODE_CACHE, 0, Buffer.alloc(0)));
  await waitFor('the code cache', () => guest.codeCache.isEnded);
  return Buffer.concat(guest.codeCache.pieces);
}

/** What V8 said of the cache, and that the function answers in any case. */
async function use(codeCache: Buffer, options: Partial<GuestOptions> = {}): Promise<string | undefined> {
  await using guest = await GuestDriver.load({ source: SOURCE, codeCache, ...options });
  expect((await guest.call()).text).toMatch(/^\d+$/);
  return guest.loaded?.codeCache;
}

describe('a code cache', () => {
  test('is taken by the same runtime for the same source, and has what calls compiled', async () => {
    const trained = await make();
    expect(trained.length).toBeGreaterThan(SOURCE.length / 4);
    expect(await use(trained)).toBe('used');
  });

  test('of another version of V8, with other flags or of another source is refused, and the function answers', async () => {
    const cache = await make();
    const older = Buffer.from(cache);
    // The second word is the hash of V8's version.
    older.writeUInt32LE((older.readUInt32LE(4) ^ 1) >>> 0, 4);
    expect(await use(older)).toBe('rejected');
    expect(await use(cache, { nodeArgs: ['--no-opt'] })).toBe('rejected');
    expect(await use(cache, { source: `${SOURCE}// longer` })).toBe('rejected');
    expect(await use(Buffer.from('not a cache'))).toBe('rejected');
  });

  test('is not offered for small sources and ES modules', async () => {
    for (const options of [
      { source: 'exports.default = () => new Response("x");' },
      { source: `${FILLER} export default () => new Response("x");`, isModule: true },
    ]) {
      await using guest = await GuestDriver.load(options);
      expect(guest.loaded).toMatchObject({ ok: true });
      expect(guest.loaded?.codeCache).toBeUndefined();
    }
  });

  test('asked of a guest that has none ends it: its peer does not keep the protocol', async () => {
    await using guest = await GuestDriver.load({ source: 'exports.default = () => new Response("x");' });
    guest.write(encodeFrame(FrameType.CODE_CACHE, 0, Buffer.alloc(0)));
    expect(await guest.exit).toBe(76);
  });
});
