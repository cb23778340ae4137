/** The longest files begin first, so that no worker waits alone for one of them at the end. The others by size, as ever. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const LONGEST = [
  'faults/events-crash-points',
  'security/crun',
  'security/runc',
  'security/egress',
  'integration/builder/images',
  'e2e/swarm/degraded',
  'e2e/images/port',
  'e2e/runtimes/node',
  'e2e/builder/install',
  'e2e/runtimes/bun-deno',
  'e2e/swarm/failures',
  'e2e/swarm/joining',
  'faults/swarm-sentinel',
  'e2e/cli/volumes',
  'e2e/images/containerfile',
  'e2e/host/server',
  'e2e/cli/first-steps',
  'faults/cells-cluster',
  'e2e/docs/blocks',
  'e2e/sandbox/lifecycle',
  'e2e/builder/pip',
  'e2e/sandbox/limits',
  'faults/events-ledger',
  'e2e/invocation/load',
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONGEST.findIndex((name) => moduleId.includes(`/test/${name}.test.ts`));
      return at === -1 ? LONGEST.length : at;
    };
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}
