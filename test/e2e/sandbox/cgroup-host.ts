/**
 * One sandbox's life on the cgroup mounts that this process sees, told as one line of JSON. Started by
 * cgroup-hosts.test.ts in mount namespaces that look like other hosts.
 */
import { readFileSync } from 'node:fs';
import { parseCgroupLayout } from '../../../infra/sandbox/cgroup/layout.ts';
import { MB, SandboxBench } from './sandbox-bench.ts';

const HOG = 'const kept = []; for (;;) kept.push(Buffer.alloc(8 * 1024 * 1024, 1));';

async function live(runtime: string): Promise<object> {
  const bench = await SandboxBench.open(runtime);
  try {
    const greeting = await bench.sh('echo hello');
    const hog = await bench.run(['/usr/bin/node', '-e', HOG], { memoryBytes: 128 * MB });
    const sandbox = await bench.launch();
    const { pids } = await sandbox.usage();
    await sandbox.freeze();
    await sandbox.thaw();
    sandbox.kill();
    const { killed } = await sandbox.exited;
    await bench.host.close();
    return { greeting, hog: { outOfMemory: hog.outOfMemory }, pids, killed, leftovers: bench.leftovers() };
  } finally {
    await bench.close();
  }
}

const { mode } = parseCgroupLayout(readFileSync('/proc/self/mountinfo', 'utf8'));
const result = await live(process.argv[2] ?? 'crun').catch(
  ({ code, message }: Error & { code?: string }) => ({
    error: code,
    message,
  }),
);
process.stdout.write(`${JSON.stringify({ mode, ...result })}\n`);
