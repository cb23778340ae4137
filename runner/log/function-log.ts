/**
 * Log lines of functions, batched to capped streams in the fast Redis.
 * Invariant: bounded everywhere. A line is cut at LOG_LINE_BYTES_MAX, the queue to Redis at QUEUE_LINES_MAX (what is
 * over is dropped and counted), a stream at LOG_LINES_KEPT_PER_FUNCTION and LOG_BYTES_KEPT_PER_FUNCTION.
 * Deliberately absent: reading (the gateway does).
 */
import type { ChainableCommander, Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import type { Deployment, LogLine } from '../../sdk/protocol/api.ts';
import {
  LOG_BYTES_KEPT_PER_FUNCTION,
  LOG_LINE_BYTES_MAX,
  LOG_LINES_KEPT_PER_FUNCTION,
} from '../../sdk/protocol/limits.ts';
import type { Cell } from '../../infra/contract/cells.ts';
import { cellsOf } from '../../infra/lib/redis.ts';
import type { Redact } from './redaction.ts';

const FLUSH_MS = 20;
const QUEUE_LINES_MAX = 20_000;
/** Deployments with secrets that ran here lately; what runs now is a small part of them. */
const REDACTIONS_MAX = 10_000;
const LOG_TTL_S = 7 * 86_400;
const CHECK_BYTES = LOG_BYTES_KEPT_PER_FUNCTION / 4;

export type NewLine = Omit<LogLine, 'cursor' | 'atMs' | 'deployment'>;

export class FunctionLog {
  readonly #redis: Redis;
  readonly #queue: { functionName: string; json: string }[] = [];
  readonly #redactions = new LRUCache<string, Redact>({ max: REDACTIONS_MAX });
  readonly #partial = new Map<string, string>();
  /** Bytes written for a function since its stream was measured. */
  readonly #unchecked = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #dropped = 0;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** From now on lines of this deployment go through `redact`. */
  redact(deployment: string, redact: Redact | undefined): void {
    if (redact) this.#redactions.set(deployment, redact);
    else this.#redactions.delete(deployment);
  }

  write(deployment: Deployment, line: NewLine): void {
    if (this.#queue.length >= QUEUE_LINES_MAX) {
      this.#dropped++;
      return;
    }
    const redact = this.#redactions.get(deployment.id);
    const message = cut(redact ? redact(line.message) : line.message);
    const record = { ...line, message, atMs: Date.now(), deployment: deployment.id };
    let json = JSON.stringify(record);
    if (redact && line.fields) json = redact(json);
    if (json.length > LOG_LINE_BYTES_MAX * 2) json = JSON.stringify(shrink(record));
    this.#queue.push({ functionName: deployment.functionName, json });
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS);
  }

  /** Whole lines of a chunk; the rest waits for the next one. A line without an end is cut, not collected for ever. */
  splitLines(key: string, chunk: Buffer): string[] {
    const text = (this.#partial.get(key) ?? '') + chunk.toString('utf8');
    const lines = text.split('\n');
    const rest = lines.pop() ?? '';
    if (rest.length > LOG_LINE_BYTES_MAX) {
      lines.push(rest);
      this.#partial.delete(key);
    } else if (rest) this.#partial.set(key, rest);
    else this.#partial.delete(key);
    return lines.filter((line) => line !== '');
  }

  forget(sandbox: string): void {
    this.#partial.delete(`${sandbox}stdout`);
    this.#partial.delete(`${sandbox}stderr`);
  }

  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const lines = this.#queue.splice(0);
    if (lines.length === 0) return;
    const pipelines = new Map<Cell, ChainableCommander>();
    const pipelineOf = (functionName: string): ChainableCommander => {
      const cell = cellsOf(this.#redis).ofFunction(functionName);
      const pipeline = pipelines.get(cell) ?? this.#redis.pipeline();
      pipelines.set(cell, pipeline);
      return pipeline;
    };
    const names = new Set<string>();
    for (const { functionName, json } of lines) {
      names.add(functionName);
      this.#unchecked.set(functionName, (this.#unchecked.get(functionName) ?? 0) + json.length);
      const max = ['MAXLEN', '~', LOG_LINES_KEPT_PER_FUNCTION] as const;
      pipelineOf(functionName).xadd(this.#keyOf(functionName), ...max, '*', 'l', json);
    }
    for (const name of names) pipelineOf(name).expire(this.#keyOf(name), LOG_TTL_S);
    // Logs are not promised: when Redis is away these lines are lost, and counted.
    await Promise.all(
      [...pipelines.values()].map((pipeline) =>
        pipeline.exec().catch(() => (this.#dropped += pipeline.length)),
      ),
    );
    for (const name of names) if ((this.#unchecked.get(name) ?? 0) > CHECK_BYTES) await this.#trim(name);
  }

  /** A stream is capped by its number of lines as it grows; its bytes are looked at now and then. */
  async #trim(name: string): Promise<void> {
    this.#unchecked.delete(name);
    const key = this.#keyOf(name);
    try {
      const [bytes, lines] = await Promise.all([this.#redis.memory('USAGE', key), this.#redis.xlen(key)]);
      if (Number(bytes) <= LOG_BYTES_KEPT_PER_FUNCTION) return;
      const kept = Math.floor((lines * LOG_BYTES_KEPT_PER_FUNCTION) / Number(bytes));
      await this.#redis.xtrim(key, 'MAXLEN', kept);
    } catch {
      // Redis is away; the next lines bring us here again.
    }
  }

  #keyOf(functionName: string): string {
    return cellsOf(this.#redis).ofFunction(functionName).fast.logs(functionName);
  }

  get dropped(): number {
    return this.#dropped;
  }
}

function cut(message: string): string {
  return message.length <= LOG_LINE_BYTES_MAX
    ? message
    : `${message.slice(0, LOG_LINE_BYTES_MAX)} … [cut, ${message.length} characters]`;
}

/** Control characters take six times their length in JSON, and fields have any size. */
function shrink<Line extends { message: string }>(line: Line): Line & { fields?: object } {
  const fields = 'fields' in line ? { fields: { cut: 'fields were too large' } } : {};
  return { ...line, message: line.message.slice(0, LOG_LINE_BYTES_MAX / 6), ...fields };
}
