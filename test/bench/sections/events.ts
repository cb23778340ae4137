/**
 * Events beside raw BullMQ, each on a Redis of its own that forces every write to disk, one after the other: the rate from acceptance to execution, the latency of one
 * acceptance, and how long an accepted event waits until it is begun. The baseline's worker does nothing; ours runs a
 * function in a sandbox and writes record, attempt and result.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { startRedis } from '../../helpers/redis.ts';
import type { Record } from '../stats.ts';
import type { Subject } from '../subject.ts';

const BATCH = 250;
const LANES = 2;
const LATENCY_SAMPLES = 150;
const BASELINE = 'bench-baseline';
const WORKER = `
const { Worker } = require('bullmq');
const { Redis } = require('ioredis');
const [path, total] = process.argv.slice(1);
let done = 0;
const connection = new Redis({ path, maxRetriesPerRequest: null });
const worker = new Worker('${BASELINE}', async (job) => {
  if (++done === Number(total)) process.send('done');
  return job.timestamp;
}, { connection, prefix: '{bench}', concurrency: 100 });
worker.waitUntilReady().then(() => process.send('ready'));
`;

/** `name` is a function that answers GET. `count` events are sent in each way. */
export async function eventsRound(
  record: Record,
  subject: Subject,
  name: string,
  count: number,
): Promise<void> {
  const server = await startRedis({ persistent: true });
  const redis = new Redis({ path: server.socket, maxRetriesPerRequest: null });
  const queue = new Queue(BASELINE, { connection: redis, prefix: '{bench}' });
  try {
    await ratesRound(record, subject, name, count, queue, server.socket);
    await latencyRound(record, subject, name, queue);
  } finally {
    await queue.close();
    redis.disconnect();
    await server.close();
  }
}

async function ratesRound(
  record: Record,
  subject: Subject,
  name: string,
  count: number,
  queue: Queue,
  socket: string,
): Promise<void> {
  const batches = Math.ceil(count / BATCH);
  const worker = await startWorker(socket, batches * BATCH);
  const finished = once(worker, 'message');
  const rawMs = await timed(async () => {
    await inLanes(batches, () => queue.addBulk(Array.from({ length: BATCH }, createJob)));
    await finished;
  });
  worker.kill();
  record.of('raw BullMQ, accepted to executed', '/s').add((batches * BATCH * 1000) / rawMs);

  const before = await succeeded(subject);
  const events = Array.from({ length: BATCH }, () => ({ function: name, method: 'GET' }));
  const oursMs = await timed(async () => {
    await inLanes(batches, () => subject.client.submit(events));
    while ((await succeeded(subject)) - before < batches * BATCH) await pause(10);
  });
  record.of('events, accepted to executed', '/s').add((batches * BATCH * 1000) / oursMs);
}

async function latencyRound(record: Record, subject: Subject, name: string, queue: Queue): Promise<void> {
  const ids: string[] = [];
  for (let i = 0; i < LATENCY_SAMPLES; i++) {
    record.of('raw queue.add', 'ms').add(await timed(() => queue.add('x', {}, { removeOnComplete: true })));
    const ms = await timed(async () => ids.push((await subject.client.invokeAsync(name)).id));
    record.of('accepting an event over HTTP', 'ms').add(ms);
  }
  for (const id of ids.slice(-20)) {
    const { attempts, acceptedMs } = await subject.client.waitFor(id, { waitMs: 10_000 });
    record.of('events, acceptance to begin', 'ms').add((attempts[0]?.startedMs ?? Number.NaN) - acceptedMs);
  }
}

async function startWorker(socket: string, total: number): Promise<ChildProcess> {
  const args = ['-e', WORKER, socket, String(total)];
  const worker = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  await once(worker, 'message');
  return worker;
}

function createJob() {
  return { name: 'x', data: {}, opts: { removeOnComplete: true } };
}

async function succeeded(subject: Subject): Promise<number> {
  const { counters } = await subject.client.eventStats();
  return counters.succeeded ?? 0;
}

async function inLanes(count: number, run: () => Promise<unknown>): Promise<void> {
  let left = count;
  const lane = async (): Promise<void> => {
    while (left-- > 0) await run();
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
