/** What a runner says of itself with every heartbeat. */
import { arch, cpus, hostname, platform } from 'node:os';
import type { NodeRecord } from '../../sdk/protocol/api.ts';
import type { NodeFacts } from '../../sdk/protocol/swarm/constraint.ts';
import { SWARM_SPOKEN } from '../../sdk/protocol/versions.ts';
import type { WorkerOptions } from '../worker.ts';

type Self = Pick<WorkerOptions, 'id' | 'standing' | 'swarm'>;

/** What constraints can ask. */
export function describeFacts({ id, standing, swarm }: Self): NodeFacts {
  const role = swarm()?.role;
  return {
    id,
    hostname: hostname(),
    ...(role === undefined ? {} : { role }),
    platform: { os: platform(), arch: arch() },
    labels: standing.labels,
  };
}

export function describeNode(
  options: WorkerOptions,
  life: Pick<NodeRecord, 'epoch' | 'startedMs' | 'heartbeatMs' | 'availability' | 'warm' | 'taken'>,
): NodeRecord {
  const { id, version, link, memoryBytesMax, pool, stems, links, store, volumes, standing, readiness } =
    options;
  const sharing = options.sharing();
  const place = options.swarm();
  return {
    id,
    hostname: hostname(),
    ...life,
    platform: { os: platform(), arch: arch() },
    labels: standing.labels,
    version,
    protocol: SWARM_SPOKEN.protocol,
    link,
    ...(place ? { address: place.address, role: place.role } : {}),
    capacity: { memoryBytes: memoryBytesMax, cpus: cpus().length },
    used: {
      memoryBytes: pool.usedBytes,
      sandboxes: pool.count,
      busySlots: links.inFlight,
      stems: stems.count,
    },
    images: store.usage(),
    ...(sharing ? { peers: sharing } : {}),
    health: readiness.health,
    volumes: volumes.usage(),
  };
}
