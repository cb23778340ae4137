/** What roles log goes to their supervisor, which may be gone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../../helpers/source-tree.ts';

test('a process whose log nobody reads any more still ends', async () => {
  const source = `
    const { createLog } = await import(${JSON.stringify(join(ROOT, 'infra/lib/log.ts'))});
    const log = createLog('test', 'info');
    process.on('SIGTERM', () => { log.info('stopping'); process.exit(0); });
    log.info('ready');
    setInterval(() => {}, 1_000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(child.stdout, 'data');
    child.stdout.destroy();
    await once(child.stdout, 'close');
    child.kill('SIGTERM');
    const [code] = (await once(child, 'exit', { signal: AbortSignal.timeout(10_000) })) as [number];
    expect(code).toBe(0);
  } finally {
    child.kill('SIGKILL');
  }
});
