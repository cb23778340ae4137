/**
 * Idempotency records of synchronous calls (those of events are written by accept.lua, in the same keys). A key stands
 * for one request until IDEMPOTENCY_KEPT_MS after its end. Invariant: of all who bring a key, one runs the call.
 */
import type { Redis } from 'ioredis';
import type { Cells } from '../contract/cells.ts';
import { cellsOf } from '../lib/redis.ts';
import type { BlobReference, EventResultHead } from './record.ts';
import { defineEventScripts, type RunScript, type ScriptName } from './scripts.ts';
import type { StoredResult } from './store.ts';

export type Claim =
  | { readonly kind: 'new' }
  | { readonly kind: 'running'; readonly id: string }
  | { readonly kind: 'done'; readonly id: string; readonly result: StoredResult }
  | { readonly kind: 'unknown'; readonly id: string }
  | { readonly kind: 'other_request'; readonly id: string };

const NOTHING = Buffer.alloc(0);

export class IdempotencyRecords {
  readonly #cells: Cells;
  /** For each cell. */
  readonly #runs: readonly RunScript[];

  constructor(redis: Redis) {
    const cells = cellsOf(redis);
    this.#cells = cells;
    this.#runs = cells.all.map((cell) => defineEventScripts(redis, cell));
  }

  /** `scope` begins with the name of its function and a slash. */
  #run(name: ScriptName, scope: string, ...args: (string | number | Buffer)[]): Promise<unknown> {
    const { index } = this.#cells.ofFunction(scope.slice(0, scope.lastIndexOf('/')));
    return (this.#runs[index] as RunScript)(name, [scope, ...args]);
  }

  async claim(scope: string, fingerprint: string, id: string, leaseMs: number): Promise<Claim> {
    const reply = (await this.#run('idem-begin', scope, fingerprint, id, leaseMs)) as Buffer[];
    const [kind, holder, head, body, blob] = reply;
    switch (String(kind)) {
      case 'NEW':
        return { kind: 'new' };
      case 'RUNNING':
        return { kind: 'running', id: String(holder) };
      case 'UNKNOWN':
        return { kind: 'unknown', id: String(holder) };
      case 'OTHER':
        return { kind: 'other_request', id: String(holder) };
      default:
        return {
          kind: 'done',
          id: String(holder),
          result: {
            head: JSON.parse(String(head)) as EventResultHead,
            body: body ?? NOTHING,
            blob: blob && blob.length > 0 ? (JSON.parse(String(blob)) as BlobReference) : undefined,
          },
        };
    }
  }

  async finish(scope: string, id: string, { head, body, blob }: StoredResult): Promise<void> {
    const reference = blob ? JSON.stringify(blob) : '';
    await this.#run('idem-end', scope, id, 'done', JSON.stringify(head), body, reference, 0);
  }

  async renew(scope: string, id: string, leaseMs: number): Promise<void> {
    await this.#run('idem-end', scope, id, 'renew', '', '', '', leaseMs);
  }

  /** The call provably did not run: the key may be used again. */
  async release(scope: string, id: string): Promise<void> {
    await this.#run('idem-end', scope, id, 'release', '', '', '', 0);
  }
}
