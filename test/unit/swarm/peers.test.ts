/** Which node is asked for a layer, for how long, and how much one gives. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { mayHave, summarize } from '../../../infra/oci/store/digest-summary.ts';
import { PeerChoice } from '../../../runner/swarm/peers/peer-choice.ts';
import { UploadPace } from '../../../runner/swarm/peers/upload-pace.ts';
import { startWatch } from '../../../runner/swarm/peers/watch.ts';
import { createNodeRecord } from '../../helpers/node-record.ts';

const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const digests = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => digestOf(`${prefix}-${i}`));

describe('the summary of digests', () => {
  test('misses none that is there, and few that are not seem to be', () => {
    const own = digests('own', 300);
    const summary = summarize(own);
    expect(own.every((digest) => mayHave(summary, digest))).toBe(true);
    const wrong = digests('other', 2_000).filter((digest) => mayHave(summary, digest));
    expect(wrong.length).toBeLessThan(60);
  });

  test('stays small: of too many digests the last are left out', () => {
    const own = digests('own', 5_000);
    const summary = summarize(own);
    expect(summary.length).toBeLessThan(900);
    expect(own.slice(0, 512).every((digest) => mayHave(summary, digest))).toBe(true);
  });

  test('says nothing when it is empty, damaged or larger than anybody of ours makes it', () => {
    const digest = digestOf('a');
    expect(mayHave(summarize([]), digest)).toBe(false);
    expect(mayHave('!!', digest)).toBe(false);
    expect(mayHave(Buffer.alloc(100_000, 0xff).toString('base64url'), digest)).toBe(false);
  });
});

describe('the choice of a peer', () => {
  const digest = digestOf('layer');
  const zero = { count: 0, bytes: 0 };
  const node = (id: string, has: readonly string[], address = `tcp:10.0.0.${id}:7378`) =>
    createNodeRecord(id, {
      address,
      peers: { summary: summarize(has), kept: zero, given: zero, got: zero, fromRegistry: 0, failed: 0 },
    });
  let now = 0;
  const create = (): PeerChoice => new PeerChoice(() => now);
  const ids = (choice: PeerChoice, nodes: Parameters<PeerChoice['choose']>[1], isLast = false): string[] =>
    choice
      .choose(digest, nodes, isLast)
      .map(({ id }) => id)
      .sort();

  test('falls on those that say they have it, and can be reached', () => {
    const nodes = [
      node('1', [digest]),
      node('2', []),
      createNodeRecord('3', { address: 'tcp:10.0.0.3:7378' }),
      node('4', [digest], 'unix:/run/x'),
      node('5', [digest], 'tcp:[fd00::5]:7378'),
    ];
    expect(ids(create(), nodes)).toEqual(['1', '5']);
    expect(create().choose(digest, [node('5', [digest], 'tcp:[fd00::5]:7378')])).toEqual([
      { id: '5', url: 'https://[fd00::5]:7378' },
    ]);
  });

  test('spreads over all of them', () => {
    const nodes = ['1', '2', '3'].map((id) => node(id, [digest]));
    const choice = create();
    const first = new Set(Array.from({ length: 100 }, () => choice.choose(digest, nodes)[0]?.id));
    expect(first.size).toBe(3);
  });

  test('leaves one that failed alone, longer each time, and forgives it when it gives something', () => {
    const [choice, nodes] = [create(), [node('1', [digest])]];
    const restOf = (): number => {
      const from = now;
      while (ids(choice, nodes).length === 0) now += 1_000;
      return now - from;
    };
    choice.onFailure('1', false);
    expect(restOf()).toBe(15_000);
    choice.onFailure('1', false);
    expect(restOf()).toBe(30_000);
    choice.onGood('1');
    choice.onFailure('1', false);
    expect(restOf()).toBe(15_000);
  });

  test('when there is nobody else: takes one that was slow, and not one that lied', () => {
    const [choice, nodes] = [create(), [node('1', [digest]), node('2', [digest])]];
    choice.onFailure('1', false);
    choice.onFailure('2', true);
    expect(ids(choice, nodes)).toEqual([]);
    expect(ids(choice, nodes, true)).toEqual(['1']);
  });
});

describe('uploads', () => {
  test('are few, and no node has all places', () => {
    const pace = new UploadPace(1e6);
    const first = pace.tryBegin('a');
    expect([pace.tryBegin('a'), pace.tryBegin('a')].map((one) => typeof one)).toEqual([
      'function',
      'undefined',
    ]);
    expect(pace.tryBegin('b')).toBeTypeOf('function');
    expect(pace.tryBegin('c')).toBeUndefined();
    first?.();
    expect(pace.tryBegin('c')).toBeTypeOf('function');
  });

  test('share one rate', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
    try {
      const pace = new UploadPace(1_000_000);
      let sent = 0;
      for (let upload = 0; upload < 3; upload++)
        void (async () => {
          for (;;) {
            await pace.take(10_000);
            sent += 10_000;
          }
        })();
      await vi.advanceTimersByTimeAsync(1_000);
      expect(sent).toBeGreaterThan(900_000);
      expect(sent).toBeLessThan(1_100_000);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('the wait for a peer', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] }));
  afterEach(() => void vi.useRealTimers());
  const limits = { firstMs: 1_000, windowMs: 2_000, windowBytes: 1_000 };

  test('ends when nothing comes', () => {
    const watch = startWatch(limits, () => true);
    vi.advanceTimersByTime(900);
    expect(watch.signal.aborted).toBe(false);
    vi.advanceTimersByTime(200);
    expect(watch.signal.aborted).toBe(true);
    watch.close();
  });

  test('ends when too little comes, however long it has been enough', () => {
    const watch = startWatch(limits, () => true);
    for (let at = 0; at < 60_000; at += 100) {
      watch.onBytes(100);
      vi.advanceTimersByTime(100);
    }
    expect(watch.signal.aborted).toBe(false);
    for (let at = 0; at < 4_200; at += 100) {
      watch.onBytes(1);
      vi.advanceTimersByTime(100);
    }
    expect(watch.signal.aborted).toBe(true);
    watch.close();
  });

  test('ends with the last sign of life', () => {
    let isUp = true;
    const watch = startWatch({ ...limits, firstMs: 60_000 }, () => isUp);
    vi.advanceTimersByTime(10_000);
    expect(watch.signal.aborted).toBe(false);
    isUp = false;
    vi.advanceTimersByTime(200);
    expect(watch.signal.aborted).toBe(true);
    watch.close();
  });
});
