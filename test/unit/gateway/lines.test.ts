import { describe, expect, it } from 'vitest';
import { createLineStreamer } from '../../../gateway/routes/lines.ts';
import { FOLLOWERS_MAX } from '../../../sdk/protocol/limits.ts';
import { readLines } from '../../helpers/lines.ts';

const never = new AbortController().signal;

/** Counts up until its signal fires, and notes how far it came and that it ended. */
function createSource() {
  const seen = { produced: 0, isEnded: false };
  async function* open(signal: AbortSignal) {
    try {
      while (!signal.aborted) {
        seen.produced += 1;
        yield { n: seen.produced };
      }
    } finally {
      seen.isEnded = true;
    }
  }
  return { seen, open };
}

describe('a stream of lines', () => {
  it('is JSON lines, and is not read ahead of the client', async () => {
    const { seen, open } = createSource();
    const response = await createLineStreamer(never, () => {})(never, open);
    expect(response.headers.get('content-type')).toBe('application/x-ndjson');
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen.produced).toBe(0);
    const lines = readLines(response);
    expect(await lines.next()).toEqual({ n: 1 });
    expect(seen.produced).toBe(1);
    await lines.cancel();
  });

  it('cuts the connection and reports when its source fails', async () => {
    const failures: unknown[] = [];
    const response = await createLineStreamer(never, (error) => failures.push(error))(
      never,
      async function* () {
        yield 1;
        throw new Error('lost');
      },
    );
    const lines = readLines(response);
    expect(await lines.next()).toBe(1);
    await expect(lines.next()).rejects.toThrow('lost');
    expect(failures).toHaveLength(1);
  });
});

describe('the number of streams', () => {
  it('is bounded, and a place is free again when one ends, is left, or its request is over', async () => {
    const stream = createLineStreamer(never, () => {});
    const request = new AbortController();
    const left = readLines(await stream(never, createSource().open));
    const ended = readLines(await stream(never, async function* () {}));
    await stream(request.signal, createSource().open);
    for (let i = 3; i < FOLLOWERS_MAX; i++) await stream(never, createSource().open);
    const tryOpen = () => stream(never, createSource().open);

    await expect(tryOpen()).rejects.toMatchObject({ code: 'OVERLOADED' });
    expect(await ended.next()).toBeUndefined();
    await tryOpen();
    await expect(tryOpen()).rejects.toMatchObject({ code: 'OVERLOADED' });
    await left.cancel();
    await tryOpen();
    await expect(tryOpen()).rejects.toMatchObject({ code: 'OVERLOADED' });
    request.abort();
    await tryOpen();
    await expect(tryOpen()).rejects.toMatchObject({ code: 'OVERLOADED' });
  });

  it('does not count a request that is over before it begins', async () => {
    const stream = createLineStreamer(never, () => {});
    for (let i = 0; i <= FOLLOWERS_MAX; i++) await stream(AbortSignal.abort(), createSource().open);
    await stream(never, createSource().open);
  });
});
