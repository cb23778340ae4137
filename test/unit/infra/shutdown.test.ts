import { pino } from 'pino';
import { expect, test } from 'vitest';
import { Shutdown } from '../../../infra/lib/shutdown.ts';

test('steps run newest first, and one that fails or hangs does not stop the others', async () => {
  const ran: string[] = [];
  const shutdown = new Shutdown(pino({ level: 'silent' }), 20);
  shutdown.add('first', () => ran.push('first'));
  shutdown.add('hangs', () => new Promise(() => ran.push('hangs')));
  shutdown.add('fails', () => {
    ran.push('fails');
    throw new Error('no');
  });
  await shutdown.run();
  expect(ran).toEqual(['fails', 'hangs', 'first']);
});

test('all steps together have twice the time of one', async () => {
  const shutdown = new Shutdown(pino({ level: 'silent' }), 100);
  let ran = 0;
  for (let i = 0; i < 20; i++) {
    shutdown.add(`hangs ${i}`, () => new Promise(() => ran++));
  }
  const startedAt = performance.now();
  await shutdown.run();
  expect(ran).toBe(20);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});
