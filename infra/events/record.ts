/**
 * An invocation's record as it lies in Redis, and as clients see it. Field names are short because there are millions:
 * s state · fn function · acc accepted · exp end of its maximum age · due when it runs next · seq order of acceptance ·
 * pri priority · key line · by bytes · pol policy · org origin · n attempts · c counted tries · l lost attempts · f newest
 * fence · df fence of the last written end · a1… attempts · end, why: final · red replays · resx result's expiry ·
 * ik idempotency scope · job its BullMQ job · cs consumer · died runners that ended under it · rms how long a result is kept ·
 * nx what was begun in the write of the last end ·
 * dst whose end is told · out, outn, oute: what has become of telling it · stn, stb: steps and their bytes · slp since when it
 * is suspended · sus how often it was · wk an event came while it ran · grp the invocation that waits for it and others · gn how
 * many of its group have not ended · ge:… a member in another cell that has.
 */
import { Attempt, InvocationRecord, PRIORITIES } from '../../sdk/protocol/events.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Destination } from '../../sdk/protocol/manifest.ts';
import type { HeaderList } from '../../sdk/protocol/invocation.ts';

/** A function's rules at the moment of acceptance, so that what was promised does not change with a deploy. */
export interface EventPolicy {
  readonly retries: number;
  readonly backoffMs: number;
  readonly backoffMsMax: number;
  readonly resultMs: number;
  readonly onSuccess?: Destination | undefined;
  readonly onFailure?: Destination | undefined;
}

export interface EventOrigin {
  /** `http`, `batch`, `schedule:…`, … */
  readonly from: string;
  readonly orderingKey?: string;
  /** Deployment or alias that it is for; absent: whatever is live when it runs. */
  readonly version?: string;
  /** Ids of those whose end it has waited for: its body is made of them. */
  readonly members?: readonly string[];
  readonly traceparent?: string;
}

/** A body in the registry. */
export interface BlobReference {
  readonly digest: string;
  readonly bytes: number;
}

/** What the function will see. */
export interface EventHead {
  readonly method: string;
  readonly url: string;
  readonly headers: HeaderList;
}

export interface EventResultHead {
  readonly status: number;
  readonly headers: HeaderList;
  readonly bytes: number;
  /** Only the beginning was kept. */
  readonly isCut?: boolean;
}

export type Hash = Readonly<Record<string, Buffer>>;

export function readText(hash: Hash, field: string): string {
  const value = hash[field];
  if (value !== undefined) return value.toString('utf8');
  throw new SkiffError('INTERNAL', 'a stored record is damaged', {
    cause: new Error(`an invocation's record has no field "${field}"`),
  });
}

export function readNumber(hash: Hash, field: string): number {
  return Number(readText(hash, field));
}

export function readJson<T>(hash: Hash, field: string): T {
  return JSON.parse(readText(hash, field)) as T;
}

function tryNumber(hash: Hash, field: string): number | undefined {
  const value = hash[field];
  return value === undefined ? undefined : Number(value.toString('latin1'));
}

/** `request` may be empty: it can expire before the record does. */
export function toInvocationRecord(id: string, record: Hash, request: Hash, nowMs: number): InvocationRecord {
  const head = request['h'] ? readJson<EventHead>(request, 'h') : undefined;
  const blob = request['blob'] ? readJson<BlobReference>(request, 'blob') : undefined;
  const origin = readJson<EventOrigin>(record, 'org');
  const resultExpiresMs = tryNumber(record, 'resx');
  const optional = {
    reason: record['why']?.toString('utf8') || undefined,
    dueMs: tryNumber(record, 'due'),
    endedMs: tryNumber(record, 'end'),
    orderingKey: origin.orderingKey,
    waitsFor: tryNumber(record, 'gn') || undefined,
    resultExpiresMs,
    destination: readDestination(record),
  };
  return InvocationRecord.parse({
    id,
    functionName: readText(record, 'fn'),
    state: readText(record, 's'),
    acceptedMs: readNumber(record, 'acc'),
    expiresMs: readNumber(record, 'exp'),
    attempts: readAttempts(record),
    counted: readNumber(record, 'c'),
    lost: readNumber(record, 'l'),
    steps: tryNumber(record, 'stn') ?? 0,
    suspensions: tryNumber(record, 'sus') ?? 0,
    replays: tryNumber(record, 'red') ?? 0,
    method: head?.method ?? '',
    url: head?.url ?? '',
    bodyBytes: blob?.bytes ?? request['b']?.length ?? 0,
    priority: PRIORITIES[readNumber(record, 'pri')] ?? 'normal',
    origin: origin.from,
    hasResult: resultExpiresMs !== undefined && resultExpiresMs > nowMs,
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  });
}

function readDestination(record: Hash): InvocationRecord['destination'] {
  const state = record['out']?.toString('latin1');
  if (state !== 'pending' && state !== 'delivered' && state !== 'failed') return undefined;
  const error = record['oute']?.toString('utf8') || undefined;
  return { state, attempts: tryNumber(record, 'outn') ?? 0, ...(error === undefined ? {} : { error }) };
}

function readAttempts(record: Hash): Attempt[] {
  const count = readNumber(record, 'n');
  const attempts: Attempt[] = [];
  for (let n = 1; n <= count; n++) {
    if (record[`a${n}`]) attempts.push(Attempt.parse(readJson(record, `a${n}`)));
  }
  return attempts;
}
