import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENOSYS, EPERM, openBench, type Bench, type Probe } from './probe.ts';

describe('runtime classes', () => {
  let bench: Bench;
  beforeAll(async () => {
    bench = await openBench('crun');
  });
  // Fails when either runtime leaves a process, mount or cgroup.
  afterAll(() => bench?.server.stop());

  const idsOf = (probe: Probe): Promise<number> =>
    probe.run(({ load }) => load('fs').readFileSync('/proc/self/uid_map', 'utf8').trim().split('\n').length);

  it('functions under two runtimes run side by side, each with the same walls', async () => {
    const [plain, other] = await Promise.all([
      bench.deploy('plain'),
      bench.deploy('other', { runtimeClass: 'runc' }),
    ]);
    // runc insists on a second mapped id, which tells them apart from inside.
    expect([await idsOf(plain), await idsOf(other)]).toEqual([1, 2]);
    for (const probe of [plain, other]) {
      const results = await probe.run(({ syscall, load }) => ({
        mount: syscall(165, 0, 0, 0, 0, 0),
        clone3: syscall(435, 0, 0),
        vsock: syscall(41, 40, 1, 0),
        root: load('fs').existsSync('/root'),
        uid: process.getuid?.(),
      }));
      expect(results).toEqual({ mount: EPERM, clone3: ENOSYS, vsock: EPERM, root: false, uid: 1000 });
    }
  });

  it('after kill -9 of the runner, sandboxes of every class are reaped before it is ready again', async () => {
    const old = bench.server.kill('runner');
    await expect.poll(() => bench.server.state.processes['runner'], { timeout: 10_000 }).not.toBe(old);
    const again = await bench.deploy('again', { runtimeClass: 'runc' });
    expect(await idsOf(again)).toBe(2);
  });

  it('a class that the host does not have is refused at deploy, with those it has', async () => {
    await expect(bench.deploy('odd', { runtimeClass: 'kata' })).rejects.toThrow(/it has default, crun, runc/);
  });
});
