/**
 * Everything a function must not be able to do, tried from inside a real sandbox. The same suite runs under every
 * runtime. Names begin with the row of the threat matrix that the check stands for (see runner/README.md).
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostSnapshot, openBench, storeDigests, type Bench, type Probe } from '../probe.ts';
import { defineBombs } from './bombs.ts';
import { defineFilesystem } from './filesystem.ts';
import { defineKernel } from './kernel.ts';
import { defineLife } from './life.ts';
import { defineNetwork } from './network.ts';
import { definePrivileges } from './privileges.ts';

export interface Ground {
  readonly bench: Bench;
  /** In the default, strict isolation. */
  readonly probe: Probe;
  readonly compat: Probe;
  readonly neighbourUrl: string;
}

export function defineEscapes(runtime: string): void {
  describe.skipIf(process.arch !== 'x64')(`a hostile function under ${runtime}`, () => {
    let ground: Ground;
    let before: Record<string, string>;
    let files: Map<string, string>;

    const open = async (): Promise<Ground> => {
      const bench = await openBench(runtime);
      try {
        const [probe, compat, neighbourUrl] = await Promise.all([
          bench.deploy('probe'),
          bench.deploy('compat', { isolation: 'compat' }),
          bench.deployNeighbour('neighbour'),
        ]);
        return { bench, probe, compat, neighbourUrl };
      } catch (error) {
        await bench.server.stop().catch(() => {});
        throw error;
      }
    };

    beforeAll(async () => {
      before = hostSnapshot(runtime);
      // Tests are tried again on a host too busy for them; what all of them stand on is not, unless it is done here.
      ground = await open().catch(open);
      files = storeDigests(ground.bench.server);
    });

    // Fails when the server leaves a process, mount, cgroup, link, namespace or nft table (B7).
    afterAll(() => ground?.bench.server.stop());

    const now = (): Ground => ground;
    definePrivileges(now);
    defineKernel(now);
    defineFilesystem(now);
    defineNetwork(now);
    defineLife(now);
    defineBombs(now);

    describe('after all of it', () => {
      it('A7 A12 A14: kernel knobs, release agents and the host\u2019s programs are what they were', () => {
        expect(hostSnapshot(runtime)).toEqual(before);
      });

      it('A19: every file that sandboxes share has the content it had', () => {
        const after = storeDigests(ground.bench.server);
        for (const [file, digest] of files) expect(after.get(file), file).toBe(digest);
      });

      it('A28: the doctor finds every process of the running sandboxes confined', async () => {
        const { stdout } = await ground.bench.server.cli(['doctor', '--security', '--json']);
        const { checks } = JSON.parse(stdout) as { checks: { id: string; status: string; detail: string }[] };
        const find = (id: string) => checks.find((check) => check.id === id);
        expect(find('sandboxes')).toMatchObject({
          status: 'ok',
          detail: expect.stringMatching(/^[1-9]\d* processes/),
        });
        expect(find('private-files')?.status).toBe('ok');
      });

      it('the neighbour answers', async () => {
        expect((await fetch(ground.neighbourUrl)).status).toBe(200);
      });
    });
  });
}
