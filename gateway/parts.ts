/** What the gateway's handlers are given; made once in main.ts, or by a test. */
import type { Redis } from 'ioredis';
import type { Catalog } from '../infra/catalog/catalog.ts';
import type { Log } from '../infra/lib/log.ts';
import type { Metrics } from '../infra/lib/metrics.ts';
import type { Registry } from '../infra/oci/registry.ts';
import type { SecretStore } from '../infra/secrets/secrets.ts';
import type { BuildQueue } from './build-queue.ts';
import type { EventParts } from './events/parts.ts';
import type { TokenVerifier } from './middleware/auth.ts';

export interface GatewayParts {
  readonly catalog: Catalog;
  /** Fail-fast connections. */
  readonly durable: Redis;
  readonly fast: Redis;
  readonly registry: Registry;
  readonly secrets: SecretStore;
  readonly builds: BuildQueue;
  readonly events: EventParts;
  readonly verifyToken: TokenVerifier;
  /** Forgets which tokens were valid. */
  readonly dropTokens: () => void;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Where clients reach this gateway, without a slash at the end. */
  readonly publicUrl: string;
  readonly version: string;
  /** Fires when the gateway stops: streams end. */
  readonly stopping: AbortSignal;
}
