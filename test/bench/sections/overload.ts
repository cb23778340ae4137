/**
 * Twice as many calls as can be served: how many are served all the same, how soon the others are told, and what it
 * costs in memory. Callers in a closed loop find the rate that can be served; then calls come at twice that rate,
 * whatever becomes of those before them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import type { ServerState } from '../../../infra/contract/paths.ts';
import type { Record } from '../stats.ts';
import type { Subject } from '../subject.ts';

const CALLERS = 40;
const SECONDS = 4;

/** `name`: a function whose sandboxes take one call at a time. */
export async function overloadRound(record: Record, subject: Subject, name: string): Promise<void> {
  const dispatcher = new Agent({ connections: null, keepAliveTimeout: 10_000 });
  const call = async (): Promise<number> => {
    const { statusCode, body } = await request(subject.url(name), { dispatcher });
    await body.dump();
    return statusCode;
  };
  try {
    const saturated = await saturate(call);
    record.of('overload: served at saturation', '/s').add(saturated);
    const before = await residentBytes(subject);
    const { served, others, refusedMs } = await flood(call, saturated * 2);
    record.of('overload: served at twice that', '/s').add(served);
    record.of('overload: neither served nor refused', '').add(others);
    for (const ms of refusedMs) record.of('overload: refusal', 'ms').add(ms);
    const grown = ((await residentBytes(subject)) - before) / 1024 ** 2;
    record.of('overload: growth of gateway and runner', 'MB').add(grown);
  } finally {
    await dispatcher.destroy();
  }
}

async function saturate(call: () => Promise<number>): Promise<number> {
  const untilMs = performance.now() + (SECONDS + 2) * 1_000;
  const countedFromMs = performance.now() + 2_000;
  let served = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() < untilMs) {
      const status = await call();
      if (status === 200 && performance.now() > countedFromMs) served++;
      if (status !== 200) await delay(10);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return served / SECONDS;
}

async function flood(call: () => Promise<number>, perSecond: number) {
  const refusedMs: number[] = [];
  const calls: Promise<void>[] = [];
  let served = 0;
  let others = 0;
  const one = async (): Promise<void> => {
    const beganMs = performance.now();
    const status = await call().catch(() => 0);
    const endedMs = performance.now();
    if (status === 200) served += endedMs - startedMs < SECONDS * 1_000 ? 1 : 0;
    else if (status === 429 || status === 503) refusedMs.push(endedMs - beganMs);
    else others++;
  };
  const startedMs = performance.now();
  for (let sent = 0; performance.now() - startedMs < SECONDS * 1_000;) {
    const due = ((performance.now() - startedMs) / 1_000) * perSecond;
    for (; sent < due; sent++) calls.push(one());
    await delay(2);
  }
  await Promise.all(calls);
  return { served: served / SECONDS, others, refusedMs };
}

async function residentBytes(subject: Subject): Promise<number> {
  const state = JSON.parse(
    await readFile(join(subject.dataDir, 'run', 'server.json'), 'utf8'),
  ) as ServerState;
  let bytes = 0;
  for (const name of ['gateway', 'runner']) {
    const status = await readFile(`/proc/${state.processes[name]}/status`, 'utf8');
    bytes += Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
  }
  return bytes;
}
