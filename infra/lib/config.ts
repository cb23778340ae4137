/**
 * Reads SKIFF_* settings. Each service declares its own schema and calls `loadConfig` once, in main.ts.
 * Invariant: the result is frozen, complete and printable: secrets print as [secret].
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { CELLS_MAX } from '../contract/cells.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';

/** A value that never prints itself. `reveal()` is the only way to it. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[secret]';
  }
  toJSON(): string {
    return '[secret]';
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}

export const secretSetting = z.string().transform((value) => new Secret(value));

const SWARM_PORT_DEFAULT = 7_377;

/** Settings that every role understands. A role's schema spreads this. */
export const commonSettings = {
  SKIFF_DATA_DIR: z.string().startsWith('/', 'must be an absolute path').default('/var/lib/skiff'),
  SKIFF_REDIS_URL: z.string().optional(),
  SKIFF_REDIS_FAST_URL: z.string().optional(),
  /** Cells that functions are spread over (infra/contract/cells.ts): the same in all processes, from the first start on. */
  SKIFF_CELLS: z.coerce.number().int().min(1).max(CELLS_MAX).default(1),
  SKIFF_REGISTRY_URL: z.url().optional(),
  SKIFF_REGISTRY_USER: z.string().optional(),
  SKIFF_REGISTRY_PASSWORD: secretSetting.optional(),
  /** Certificates (PEM) that registries are trusted by, beside the system's. */
  SKIFF_REGISTRY_CA: z.string().includes('BEGIN CERTIFICATE', 'must be a certificate in PEM').optional(),
  /** First of four ports for other hosts of a swarm: joining and registry, links, durable store, fast store. */
  SKIFF_SWARM_PORT: z.coerce.number().int().min(1).max(65_532).default(SWARM_PORT_DEFAULT),
  SKIFF_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
} as const;

/** Every SKIFF_* name that any part of Skiff reads. A name outside this list is refused: it is a typing error. */
export const KNOWN_SETTINGS: ReadonlySet<string> = new Set([
  ...Object.keys(commonSettings),
  'SKIFF_URL',
  'SKIFF_TOKEN',
  'SKIFF_GATEWAY_PORT',
  'SKIFF_GATEWAY_HOST',
  'SKIFF_GATEWAY_PUBLIC_URL',
  'SKIFF_REGISTRY_PORT',
  'SKIFF_REDIS_MEMORY_BYTES_MAX',
  'SKIFF_REDIS_FAST_MEMORY_BYTES_MAX',
  'SKIFF_BUILDER_CONCURRENCY',
  'SKIFF_NPM_REGISTRY',
  'SKIFF_PIP_INDEX',
  'SKIFF_REGISTRY_LOGINS',
  'SKIFF_RUNNER_ID',
  'SKIFF_RUNNER_MEMORY_BYTES',
  'SKIFF_RUNNER_PROBE_MS',
  'SKIFF_RUNNER_STEMS',
  'SKIFF_RUNNER_STORE_BYTES_MAX',
  'SKIFF_RUNNER_UID_BASE',
  'SKIFF_PEERS',
  'SKIFF_PEERS_BYTES_PER_SECOND',
  'SKIFF_CODE_CACHE',
  'SKIFF_RUNNER_LINK_HOST',
  'SKIFF_RUNNER_LABELS',
  'SKIFF_RUNTIME',
  'SKIFF_RUNTIME_CLASSES',
  'SKIFF_NAMESPACE_SANDBOXES_MAX',
  'SKIFF_EGRESS_DNS',
  'SKIFF_EGRESS_DEVICES',
  'SKIFF_EGRESS_INTERNAL',
  'SKIFF_DASHBOARD_PORT',
  'SKIFF_LEASES',
  'SKIFF_RATE_LIMIT_RPS',
  'SKIFF_API_RATE_LIMIT_RPS',
  'SKIFF_EVENTS_DURABILITY',
  'SKIFF_EVENTS_CONCURRENCY',
  'SKIFF_EVENTS_NAMESPACE_MAX',
  'SKIFF_JOIN_TOKEN',
  'SKIFF_JOIN_MANAGER',
]);

/** Words with commas between them. */
export const listSetting = z
  .string()
  .default('')
  .transform((text) => text.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()])));

export function loadConfig<Shape extends z.ZodRawShape>(
  shape: Shape,
  env: Readonly<Record<string, string | undefined>>,
): Readonly<z.output<z.ZodObject<Shape>>> {
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('SKIFF_') || value === undefined || value === '') continue;
    const isFile = name.endsWith('_FILE') && KNOWN_SETTINGS.has(name.slice(0, -5));
    const setting = isFile ? name.slice(0, -5) : name;
    if (!KNOWN_SETTINGS.has(setting)) {
      throw new SkiffError(
        'INVALID_CONFIG',
        `unknown setting ${name}; known are ${[...KNOWN_SETTINGS].sort().join(', ')}`,
      );
    }
    if (setting in shape) values[setting] = isFile ? readFileSync(value, 'utf8').trim() : value;
  }
  const parsed = z.object(shape).safeParse(values);
  if (!parsed.success) {
    const text = parsed.error.issues
      .map(
        (issue) => `${issue.path.join('.')}: ${issue.message} (is "${values[String(issue.path[0])] ?? ''}")`,
      )
      .join('; ');
    throw new SkiffError('INVALID_CONFIG', text);
  }
  return Object.freeze(parsed.data);
}
