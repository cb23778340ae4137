/** The longest files begin first, so that no worker waits alone for one of them at the end. The others by size, as ever. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const LONGEST = [
  'faults/events-crash-points',
  'faults/events-ledger',
  'security/crun',
  'security/runc',
  'e2e/images/port',
  'e2e/invocation/load',
  'e2e/runtimes/node',
  'e2e/swarm/failures',
  'e2e/host/server',
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
