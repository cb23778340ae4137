import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LogFile } from '../../../../infra/host/process/log-file.ts';

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'skiff-log-'))));
afterEach(() => rmSync(folder, { recursive: true }));

test('keeps a bounded number of bounded files, the newest lines in the plain one', () => {
  const log = new LogFile(join(folder, 'x.log'), 100, 2);
  for (let line = 0; line < 200; line += 1) log.write(`line ${line}`);
  log.close();
  expect(readdirSync(folder).sort()).toEqual(['x.log', 'x.log.1', 'x.log.2']);
  for (const name of readdirSync(folder)) expect(readFileSync(join(folder, name)).length).toBeLessThan(120);
  const kept = ['x.log.2', 'x.log.1', 'x.log'].flatMap((name) =>
    readFileSync(join(folder, name), 'utf8').trim().split('\n'),
  );
  const first = Number(kept[0]?.split(' ')[1]);
  expect(kept).toEqual(Array.from({ length: 200 - first }, (_, index) => `line ${first + index}`));
});

test('appends to what an earlier process wrote', () => {
  for (const text of ['one', 'two']) {
    const log = new LogFile(join(folder, 'x.log'));
    log.write(text);
    log.close();
  }
  expect(readFileSync(join(folder, 'x.log'), 'utf8')).toBe('one\ntwo\n');
});

test('is silent after close, even when its descriptor has a new owner', () => {
  const log = new LogFile(join(folder, 'x.log'));
  log.close();
  const next = new LogFile(join(folder, 'y.log'));
  log.write('late');
  next.close();
  expect(readFileSync(join(folder, 'y.log'), 'utf8')).toBe('');
});
