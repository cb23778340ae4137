/**
 * Five projects, run in this order: unit (no I/O but temp folders), integration (real Redis, registry, HTTP),
 * security (attacks from inside real containers), e2e (a whole server) and faults (servers whose processes are killed
 * and cut off). Three files at a time: most of a test on real processes is waiting. The last two go together.
 */
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/helpers/longest-first.ts';

function project(name: string, order: number, seconds: number, globalSetup: string[] = []) {
  return {
    test: {
      name,
      include:
        name === 'unit' ? ['test/tidy*.test.ts', 'test/unit/**/*.test.ts'] : [`test/${name}/**/*.test.ts`],
      // Real processes on a busy host: a test that a moment's load broke passes when it is run again; a bug does not.
      retry: name === 'unit' ? 0 : 2,
      // Nothing in them is of the process: a file in a process that is there already costs half of one in a new one.
      isolate: name !== 'unit',
      testTimeout: seconds * 1_000,
      hookTimeout: seconds * 1_000,
      sequence: { groupOrder: order },
      globalSetup,
    },
  };
}

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    reporters: ['default', './test/helpers/closing-line.ts'],
    projects: [
      project('unit', 0, 30),
      project('integration', 1, 60),
      project('security', 2, 180),
      project('e2e', 3, 180, ['./test/helpers/shared-server-setup.ts']),
      project('faults', 3, 300),
    ],
  },
});
