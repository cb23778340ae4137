/** What the gateway's handlers are given; made once in main.ts, or by a test. */
import type { Redis } from 'ioredis';
import type { Catalog } from '../infra/catalog/catalog.ts';
import type { StoreClock } from '../infra/lib/skew.ts';
import type { Log } from '../infra/lib/log.ts';
import type { Metrics } from '../infra/lib/metrics.ts';
import type { Login } from '../infra/oci/external-registry.ts';
import type { Registry } from '../infra/oci/registry.ts';
import type { RegistryLoginStore } from '../infra/secrets/registry-logins.ts';
import type { SecretStore } from '../infra/secrets/secrets.ts';
import type { Admission } from '../infra/swarm/admission.ts';
import type { Members, SwarmRecord } from '../infra/swarm/members.ts';
import type { Services } from '../infra/swarm/services.ts';
import type { Volumes } from '../infra/swarm/volumes.ts';
import type { SwarmInitRequest } from '../sdk/protocol/swarm/resources.ts';
import type { BuildQueue } from './build-queue.ts';
import type { EventParts } from './events/parts.ts';
import type { TokenVerifier } from './middleware/auth.ts';
import type { Stats } from './stats/stats.ts';
import type { CallMemory } from './swarm/call-history.ts';
import type { CallPeers } from './swarm/call-peers.ts';

export interface SwarmParts {
  readonly members: Members;
  readonly services: Services;
  readonly volumes: Volumes;
  readonly admission: Admission;
  /** <data>/swarm of this host. */
  readonly identityDir: string;
  /** Of this host, for a swarm that it would found. */
  readonly port: number;
  found(request: SwarmInitRequest): Promise<SwarmRecord>;
  end(): Promise<void>;
  /** That replicas say their times in. */
  readonly clock: Pick<StoreClock, 'now'>;
  reconcileSoon(): void;
  /** What this gateway remembers of a call that it has answered. */
  recall(invocation: string): CallMemory | undefined;
  /** What it and all others remember. */
  readonly calls: Pick<CallPeers, 'ask' | 'findFamily'>;
}

export interface GatewayParts {
  readonly catalog: Catalog;
  /** Fail-fast connections. */
  readonly durable: Redis;
  readonly fast: Redis;
  readonly registry: Registry;
  /** Where the embedded registry keeps its data, if it is on this host. */
  readonly registryDir?: string;
  readonly secrets: SecretStore;
  readonly logins: {
    readonly store: RegistryLoginStore;
    /** @throws SkiffError INVALID_CONFIG when the registry does not take it, UNAVAILABLE when it is away */
    check(host: string, login: Login): Promise<void>;
  };
  readonly builds: BuildQueue;
  readonly events: EventParts;
  readonly verifyToken: TokenVerifier;
  /** Forgets which tokens were valid. */
  readonly dropTokens: () => void;
  readonly metrics: Metrics;
  readonly swarm: SwarmParts;
  readonly stats: Pick<Stats, 'read'>;
  readonly log: Log;
  /** Where clients reach this gateway, without a slash at the end. */
  readonly publicUrl: string;
  readonly version: string;
  /** Fires when the gateway stops: streams end. */
  readonly stopping: AbortSignal;
}
