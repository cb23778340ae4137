import { describe, expect, it } from 'vitest';
import type { TraceSpan } from '../../../sdk/client/index.ts';
import { createHistogram, percentilesOf, summarize } from '../../../sdk/cli/output/bench-report.ts';
import { parseServerTiming } from '../../../sdk/cli/output/call-trace.ts';
import { createChannel } from '../../../sdk/cli/output/channel.ts';
import { createScreen } from '../../../sdk/cli/output/screen.ts';
import { formatWaterfall } from '../../../sdk/cli/output/waterfall.ts';

function capture(stream: { isTTY?: boolean; columns?: number; rows?: number } = {}) {
  let text = '';
  const sink = { ...stream, write: (chunk: string) => ((text += chunk), true), once: () => sink };
  return { channel: createChannel(sink as never, { NO_COLOR: '1' }), text: () => text };
}

describe('a waterfall', () => {
  const spans: TraceSpan[] = [
    {
      id: 'inv-1',
      functionName: 'outer',
      startMs: 1_000,
      ms: 100,
      queueMs: 10,
      coldMs: 40,
      execMs: 50,
      status: 200,
    },
    {
      id: 'inv-2',
      parent: 'inv-1',
      functionName: 'inner',
      startMs: 1_060,
      ms: 20,
      queueMs: 0,
      coldMs: 0,
      execMs: 20,
    },
  ];

  it('has a line for each part, each bar where its part was', () => {
    const lines = formatWaterfall(capture({ columns: 80 }).channel, { id: 'inv-1', spans });
    expect(lines[0]).toBe('inv-1  outer  200  100 ms');
    const bars = lines
      .slice(1)
      .map((line) => [line.slice(0, 15).trim(), line.indexOf('█'), line.split('█').length - 1]);
    const [[, start, queue]] = bars as [[string, number, number]];
    expect(bars.map(([label]) => label)).toEqual(['outer    queue', 'cold', 'exec', 'inner  exec']);
    const width = (queue as number) * 10;
    expect(
      bars.map(([, at, chars]) => [(Number(at) - Number(start)) / width, Number(chars) / width]),
    ).toEqual(
      [
        [0, 0.1],
        [0.1, 0.4],
        [0.5, 0.5],
        [0.6, 0.2],
      ].map((pair) => pair.map((n) => expect.closeTo(n, 1))),
    );
  });

  it('fits the terminal', () => {
    for (const line of formatWaterfall(capture({ columns: 60 }).channel, { id: 'inv-1', spans }).slice(1))
      expect(line.length).toBeLessThanOrEqual(60);
  });

  it('says why a call failed, and nothing that could move the cursor', () => {
    const failed = { ...(spans[0] as TraceSpan), cause: 'handler_error', detail: 'bad\u001b[2J' };
    const lines = formatWaterfall(capture().channel, { id: 'inv-1', spans: [failed] });
    expect(lines.at(-1)).toBe('outer: handler_error: bad\u{fffd}[2J');
  });
});

describe('a report of calls', () => {
  const sample = (allMs: number, coldMs = 0) => ({ allMs, headMs: allMs, queueMs: 0, coldMs, execMs: 1 });

  it('takes percentiles by nearest rank', () => {
    expect(percentilesOf(Array.from({ length: 100 }, (_, i) => i + 1))).toEqual({
      p50: 50,
      p90: 90,
      p99: 99,
      max: 100,
    });
  });

  it('keeps cold calls and failed ones out of the warm ones', () => {
    const samples = [sample(2), sample(3), sample(90, 80), { ...sample(9), failure: 'timeout' }];
    const report = summarize(samples, { ms: 1_000, warmCalls: 4, concurrency: 1 });
    expect(report).toMatchObject({
      warm: { calls: 2, all: { max: 3 } },
      cold: { calls: 1 },
      failures: { timeout: 1 },
    });
  });

  it('counts each value in one bin, without holes', () => {
    expect(createHistogram([0.9, 1, 1.2, 4, 8])).toEqual(
      [
        [1, 2],
        [1.5, 1],
        [2, 0],
        [3, 0],
        [5, 1],
        [7, 0],
        [10, 1],
      ].map(([toMs, count]) => ({ toMs, count })),
    );
  });
});

it('reads Server-Timing, of which a function may have written the beginning', () => {
  expect([
    ...parseServerTiming('queue;dur=9, db;desc="x";dur=1.5, queue;dur=2, cold;dur=0, exec;dur=3.25'),
  ]).toEqual([
    ['queue', 2],
    ['db', 1.5],
    ['cold', 0],
    ['exec', 3.25],
  ]);
});

describe('a screen', () => {
  it('draws over what it drew before, and never more than fits', () => {
    const { channel, text } = capture({ isTTY: true, columns: 10, rows: 4 });
    const screen = createScreen(channel);
    screen.draw(['a', 'b', 'c', 'd', 'e']);
    screen.draw(['a line that is too long']);
    expect(text()).toBe(
      '\u001b[J\u001b[2Ka\n\u001b[2Kb\n\u001b[2Kc\n\u001b[3A\r\u001b[J\u001b[2Ka line th…\n',
    );
  });

  it('goes on below where there is no terminal', () => {
    const { channel, text } = capture();
    const screen = createScreen(channel);
    screen.draw(['one']);
    screen.draw(['two']);
    expect(text()).toBe('one\n\ntwo\n');
  });
});
