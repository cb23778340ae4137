/** When schedules fire. CRON_YEARS=10 looks at ten years of each expression instead of three. */
import { expect, test } from 'vitest';
import {
  assertTiming,
  instantsBetween,
  nextInstant,
  type Timing,
} from '../../../infra/schedules/instants.ts';

/** From 2026: with a leap day and each zone's changes. */
const YEARS = Number(process.env['CRON_YEARS'] ?? 3);
const DAY_MS = 86_400_000;
const ms = (text: string): number => Date.parse(text);
const cron = (expression: string, timezone = 'UTC'): Timing => ({ cron: expression, timezone, anchorMs: 0 });

function list(timing: Timing, after: string, count: number): string[] {
  const found: string[] = [];
  for (
    let at = nextInstant(timing, ms(after));
    at !== undefined && found.length < count;
    at = nextInstant(timing, at)
  ) {
    found.push(new Date(at).toISOString());
  }
  return found;
}

test('a wall-clock time in a gap fires at the first instant after it', () => {
  expect(list(cron('30 2 * * *', 'Europe/Berlin'), '2026-03-27T12:00:00Z', 4)).toEqual([
    '2026-03-28T01:30:00.000Z',
    '2026-03-29T01:00:00.000Z',
    '2026-03-30T00:30:00.000Z',
    '2026-03-31T00:30:00.000Z',
  ]);
});

test('a gap of half an hour does not swallow the day', () => {
  expect(list(cron('15 2 * * *', 'Australia/Lord_Howe'), '2026-10-02T00:00:00Z', 3)).toEqual([
    '2026-10-02T15:45:00.000Z',
    '2026-10-03T15:30:00.000Z',
    '2026-10-04T15:15:00.000Z',
  ]);
});

test('a time right behind the gap fires once, not twice', () => {
  expect(list(cron('0,30 2,3 * * *', 'Europe/Berlin'), '2026-03-28T23:00:00Z', 4)).toEqual([
    '2026-03-29T01:00:00.000Z',
    '2026-03-29T01:30:00.000Z',
    '2026-03-30T00:00:00.000Z',
    '2026-03-30T00:30:00.000Z',
  ]);
});

test('a wall-clock time that comes twice fires the first time only, also when looked at in between', () => {
  const daily = cron('30 2 * * *', 'Europe/Berlin');
  expect(list(daily, '2026-10-24T12:00:00Z', 2)).toEqual([
    '2026-10-25T00:30:00.000Z',
    '2026-10-26T01:30:00.000Z',
  ]);
  expect(list(daily, '2026-10-25T00:45:00Z', 1)).toEqual(['2026-10-26T01:30:00.000Z']);
});

test('an expression for every hour goes on by the hour over both changes', () => {
  for (const [from, to] of [
    ['2026-03-28T22:00:00Z', '2026-03-29T06:00:00Z'],
    ['2026-10-24T22:00:00Z', '2026-10-25T06:00:00Z'],
  ] as const) {
    const { instants } = instantsBetween(cron('*/30 * * * *', 'Europe/Berlin'), ms(from), ms(to), 1_000);
    expect(instants.length).toBe(16);
    expect(new Set(instants.map((at, i) => at - (instants[i - 1] ?? at - 1_800_000)))).toEqual(
      new Set([1_800_000]),
    );
  }
});

test('29 February comes every four years', () => {
  expect(list(cron('0 0 29 2 *'), '2026-01-01T00:00:00Z', 3).map((at) => at.slice(0, 10))).toEqual([
    '2028-02-29',
    '2032-02-29',
    '2036-02-29',
  ]);
});

test('seconds are optional and macros are known', () => {
  expect(list(cron('*/20 * * * * *'), '2026-01-01T00:00:00Z', 2)).toEqual([
    '2026-01-01T00:00:20.000Z',
    '2026-01-01T00:00:40.000Z',
  ]);
  expect(list(cron('@daily'), '2026-01-01T12:00:00Z', 1)).toEqual(['2026-01-02T00:00:00.000Z']);
});

test('every counts from its anchor, at is one instant', () => {
  const every: Timing = { everyMs: 90_000, timezone: 'UTC', anchorMs: ms('2026-01-01T00:00:10Z') };
  expect(list(every, '2026-01-01T00:00:00Z', 2)).toEqual([
    '2026-01-01T00:00:10.000Z',
    '2026-01-01T00:01:40.000Z',
  ]);
  const at: Timing = { atMs: ms('2026-06-01T00:00:00Z'), timezone: 'UTC', anchorMs: 0 };
  expect(list(at, '2026-01-01T00:00:00Z', 5)).toEqual(['2026-06-01T00:00:00.000Z']);
  expect(nextInstant(at, ms('2026-06-01T00:00:00Z'))).toBeUndefined();
});

test.each(['30 2 * * *', '15 1-3 * * 0', '0 0 1 1,7 *', '*/7 9-17 * * 1-5'])(
  `${YEARS} years of "%s" in five zones: strictly growing, one a wall-clock time, none left out`,
  (expression) => {
    for (const timezone of [
      'UTC',
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Asia/Kolkata',
    ]) {
      const timing = cron(expression, timezone);
      const format = new Intl.DateTimeFormat('en-CA', {
        timeZone: timezone,
        dateStyle: 'short',
        timeStyle: 'medium',
        hour12: false,
      });
      const walls = new Set<string>();
      let before = ms('2026-01-01T00:00:00Z');
      // The dense one until each zone has had a change.
      const until = expression.startsWith('*/')
        ? ms('2026-04-07T00:00:00Z')
        : ms(`${2026 + YEARS}-01-01T00:00:00Z`);
      const days = (until - before) / DAY_MS;
      for (
        let at = nextInstant(timing, before);
        at !== undefined && at < until;
        at = nextInstant(timing, at)
      ) {
        expect(at).toBeGreaterThan(before);
        const wall = format.format(at);
        expect(walls.has(wall), `${wall} ${timezone}`).toBe(false);
        walls.add(wall);
        before = at;
      }
      if (expression === '30 2 * * *') expect(walls.size, timezone).toBe(days);
    }
  },
);

test('the newest instants of a long outage are found without counting through it', () => {
  const startedMs = performance.now();
  const { instants } = instantsBetween(
    cron('* * * * * *'),
    ms('2016-01-01T00:00:00Z'),
    ms('2026-01-01T00:00:00Z'),
    100,
  );
  expect(instants.length).toBe(100);
  expect(instants.at(-1)).toBe(ms('2026-01-01T00:00:00Z'));
  expect(performance.now() - startedMs).toBeLessThan(2_000);
});

test.each([
  [{ cron: '* * * *', timezone: 'UTC', anchorMs: 0 }, '4 fields'],
  [{ cron: '61 * * * *', timezone: 'UTC', anchorMs: 0 }, '61'],
  [{ cron: '0 0 31 2 *', timezone: 'UTC', anchorMs: 0 }, 'day of month'],
  [{ cron: '* * * * *', timezone: 'Mars/Olympus', anchorMs: 0 }, 'Mars/Olympus'],
  [{ timezone: 'UTC', anchorMs: 0 }, 'exactly one'],
  [{ cron: '* * * * *', everyMs: 1_000, timezone: 'UTC', anchorMs: 0 }, 'exactly one'],
])('a timing that is none is refused: %o', (timing, text) => {
  expect(() => assertTiming(timing)).toThrow(text);
});
