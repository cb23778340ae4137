import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { releaseClaim, tryClaim } from '../../../../infra/sandbox/claim.ts';
import { openUidPool, UID_BASE_MIN, UID_BLOCK_SIZE } from '../../../../infra/sandbox/uids.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'skiff-uids-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('claims', () => {
  const path = (): string => join(folder, 'claim');

  test('are held once, and again after their release', () => {
    expect([tryClaim(path()), tryClaim(path())]).toEqual([true, false]);
    releaseClaim(path());
    expect(tryClaim(path())).toBe(true);
    expect(readdirSync(folder)).toEqual(['claim']);
  });

  test.each([
    ['a pid that is gone', '4194305 123'],
    ['a pid that now is another process', '1 999999999999'],
    ['nonsense', 'x'],
    ['nothing', ''],
  ])('of %s are taken over', (_name, content) => {
    writeFileSync(path(), content);
    expect([tryClaim(path()), tryClaim(path())]).toEqual([true, false]);
    expect(readdirSync(folder)).toEqual(['claim']);
  });

  test('of a dead process go to exactly one of many takers', () => {
    const module = new URL('../../../../infra/sandbox/claim.ts', import.meta.url).pathname;
    const taker = `import { tryClaim } from ${JSON.stringify(module)};
      const { spawn } = await import('node:child_process');
      console.log(tryClaim(process.argv[1]) ? 'mine' : 'taken');
      await new Promise((r) => setTimeout(r, 1500));`;
    writeFileSync(path(), '4194305 123');
    const script = `for i in 1 2 3 4 5 6; do "$1" --input-type=module -e "$2" "$3" & done; wait`;
    const output = execFileSync('/bin/sh', ['-c', script, 'sh', process.execPath, taker, path()], {
      encoding: 'utf8',
    });
    expect(output.split('\n').filter((line) => line === 'mine')).toHaveLength(1);
  });
});

describe('uids', () => {
  test('begin at the base and never below a million', () => {
    const pool = openUidPool(UID_BASE_MIN, folder);
    expect(pool.allocate()).toBe(UID_BASE_MIN);
    pool.close();
    expect(() => openUidPool(1000, folder)).toThrow(/smallest allowed is 1000000/);
    expect(() => openUidPool(Number.NaN, folder)).toThrow(/smallest allowed/);
  });

  test('of two pools of one host never meet, nor their companions', () => {
    const [one, two] = [openUidPool(UID_BASE_MIN, folder), openUidPool(UID_BASE_MIN, folder)];
    const first = one.allocate();
    const second = two.allocate();
    expect([first, one.companionOf(first)]).toEqual([UID_BASE_MIN, UID_BASE_MIN + UID_BLOCK_SIZE]);
    expect(second).toBeGreaterThanOrEqual(one.companionOf(first + UID_BLOCK_SIZE - 1) + 1);
    one.close();
    expect(openUidPool(UID_BASE_MIN, folder).allocate()).toBe(UID_BASE_MIN);
  });

  test('are unique while they live, whatever the order of coming and going', () => {
    const pool = openUidPool(UID_BASE_MIN, folder);
    const live = new Set<number>();
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 400 }), (steps) => {
        for (const isStart of steps) {
          const [oldest] = live;
          if (isStart || oldest === undefined) {
            const uid = pool.allocate();
            expect(live.has(uid)).toBe(false);
            expect(pool.isAllocated(uid)).toBe(true);
            live.add(uid);
          } else {
            pool.release(oldest);
            live.delete(oldest);
          }
        }
      }),
    );
  });

  test('that were freed come last', () => {
    const pool = openUidPool(UID_BASE_MIN, folder);
    const first = pool.allocate();
    pool.release(first);
    const next = Array.from({ length: UID_BLOCK_SIZE - 1 }, () => pool.allocate());
    expect(next).not.toContain(first);
    expect(pool.allocate()).toBe(first);
  });

  test('that ran out are an overload', () => {
    const pool = openUidPool(UID_BASE_MIN, folder);
    for (let i = 0; i < UID_BLOCK_SIZE; i++) pool.allocate();
    expect(() => pool.allocate()).toThrow(/all 8192 sandbox uids/);
  });
});
