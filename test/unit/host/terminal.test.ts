import { expect, test } from 'vitest';
import { createRepeatFilter, describeLine } from '../../../infra/host/terminal.ts';

test('shows errors with their cause, and progress; nothing else', () => {
  const cause = { message: 'no space' };
  const error = JSON.stringify({ level: 'error', msg: 'build failed', error: { message: 'push', cause } });
  expect(describeLine('builder', error)).toBe('builder: error: build failed: push: no space');
  const progress = JSON.stringify({
    level: 'info',
    msg: 'base image',
    runtime: 'node:26',
    detail: 'packing',
  });
  expect(describeLine('builder', progress)).toBe('builder: base image node:26: packing');
  expect(describeLine('builder', JSON.stringify({ level: 'info', msg: 'job taken' }))).toBeUndefined();
  expect(describeLine('redis', '1234:M 24 Nov 2026 * Ready to accept connections')).toBeUndefined();
  expect(describeLine('gateway', '{ not json')).toBeUndefined();
});

test('passes the same text on once in ten seconds', () => {
  let now = 0;
  const isNew = createRepeatFilter(() => now);
  expect([isNew('a'), isNew('a'), isNew('b')]).toEqual([true, false, true]);
  now = 10_000;
  expect(isNew('a')).toBe(true);
});
