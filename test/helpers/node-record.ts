/** A node as it describes itself with its signs of life: an idle one of 4 GB, but for what a test changes. */
import type { NodeRecord } from '../../sdk/protocol/api.ts';

export function createNodeRecord(id: string, changes: Partial<NodeRecord> = {}): NodeRecord {
  return {
    id,
    hostname: id,
    epoch: 'e',
    startedMs: 0,
    heartbeatMs: 0,
    availability: 'active',
    labels: {},
    version: '0',
    link: '',
    capacity: { memoryBytes: 4 * 1024 ** 3, cpus: 2 },
    used: { memoryBytes: 0, sandboxes: 0, busySlots: 0, stems: 0 },
    ...changes,
  };
}
