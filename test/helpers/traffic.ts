/**
 * What clients of a swarm see while something breaks: callers at all gateways that keep calling, and others that send
 * events. Every call and every event is accounted for, and the account is printed.
 */
import { expect } from 'vitest';
import { CALL_MS_MAX } from './honest.ts';
import { bad, longestGap, more, startLoad, summarize, type Load, type Outcome } from './load.ts';
import { CALLERS, DETECT_MS_MAX, NOTICE_MS_MAX, type SwarmHosts } from './swarm-hosts.ts';
import { waitFor } from './wait.ts';

const EVENT_MS_MAX = 5_000;
const EVENT_PAUSE_MS = 50;
/** Attempts of an event that ran on a host that was lost begin again when its lease is over. */
const EVENTS_END_MS_MAX = 60_000;

export interface Allowed {
  /** Calls that may end with 502 and the word that nobody knows whether they ran. */
  readonly lost: number;
  /** That stores may be away: calls may be refused with 503. */
  readonly isRefusal?: boolean;
  /** That connections to a gateway may break, or be refused. */
  readonly isBroken?: boolean;
  readonly gapMsMax?: number;
  /** Events that may end as dead: only where several hosts are lost, and so two of them under the same event. */
  readonly dead?: number;
}

export class Traffic {
  readonly #hosts: SwarmHosts;
  readonly #load: Load;
  readonly #accepted = new Map<string, string>();
  #sentEvents = 0;
  /** Records of those that have not been executed and never will be, unless whoever sent them replays them. */
  readonly #dead: string[] = [];
  #isStopped = false;
  readonly #lanes: readonly Promise<void>[];

  constructor(hosts: SwarmHosts) {
    this.#hosts = hosts;
    this.#load = startLoad(hosts.urls, CALLERS);
    this.#lanes = hosts.urls.map((url) => this.#sendEvents(url));
  }

  get outcomes(): readonly Outcome[] {
    return this.#load.outcomes;
  }

  /** Resolves when so many more calls have succeeded. */
  more(count: number): Promise<void> {
    return more(this.#load, count);
  }

  async #sendEvents(url: string): Promise<void> {
    while (!this.#isStopped) {
      this.#sentEvents++;
      const response = await fetch(url, {
        method: 'POST',
        headers: { prefer: 'respond-async' },
        signal: AbortSignal.timeout(EVENT_MS_MAX),
      }).catch(() => undefined);
      const body = (await response?.json().catch(() => undefined)) as { id?: string } | undefined;
      if (response?.status === 202 && body?.id !== undefined) this.#accepted.set(body.id, url);
      await new Promise((resolve) => setTimeout(resolve, EVENT_PAUSE_MS));
    }
  }

  async stop(): Promise<readonly Outcome[]> {
    this.#isStopped = true;
    const [outcomes] = await Promise.all([this.#load.stop(), ...this.#lanes]);
    return outcomes;
  }

  /** Ends it, prints what became of everything, and holds it against what was promised. */
  async settle(label: string, allowed: Allowed, notes: Readonly<Record<string, number>> = {}): Promise<void> {
    const outcomes = await this.stop();
    const failed = bad(outcomes);
    const lost = failed.filter(({ status, detail }) => status === 502 && detail.startsWith('unknown'));
    const refused = failed.filter(({ status }) => status === 503 && allowed.isRefusal === true);
    const broken = failed.filter(
      ({ status }) => (status === 0 || status === 503) && allowed.isBroken === true,
    );
    const others = failed.filter((one) => ![...lost, ...refused, ...broken].includes(one));
    const slowest = Math.max(...outcomes.map(({ ms }) => ms));
    const gap = longestGap(outcomes);
    const unfinished = await this.#untilEventsEnd();
    const seconds = Object.entries({
      ...notes,
      'longest time without an answer': gap,
      'slowest call': slowest,
    })
      .map(([name, ms]) => `${name} ${(ms / 1_000).toFixed(1)} s`)
      .join(', ');
    console.log(
      `${label}: ${outcomes.length} calls sent, ${outcomes.length - failed.length} answered, ${failed.length} failed, ` +
        `${lost.length} of them lost; ${this.#sentEvents} events sent, ${this.#accepted.size} accepted, ` +
        `${this.#accepted.size - unfinished.length - this.#dead.length} executed, ${this.#dead.length} dead; ${seconds}`,
    );
    expect(unfinished, 'accepted events that have not ended').toEqual([]);
    expect(this.#dead.length, this.#dead.join('\n')).toBeLessThanOrEqual(allowed.dead ?? 0);
    expect(summarize(others)).toBe('');
    expect(lost.length, summarize(lost)).toBeLessThanOrEqual(allowed.lost);
    expect(slowest).toBeLessThan(CALL_MS_MAX);
    // Whoever waits for a host is told as soon as it is known to be gone; without stores nobody knows.
    if (allowed.isRefusal !== true)
      expect(Math.max(0, ...lost.map(({ ms }) => ms))).toBeLessThan(DETECT_MS_MAX);
    expect(gap).toBeLessThan(allowed.gapMsMax ?? NOTICE_MS_MAX);
  }

  /** Those that have not ended. */
  async #untilEventsEnd(): Promise<string[]> {
    const waiting = new Set(this.#accepted.keys());
    const { client } = this.#hosts.control;
    const look = async (id: string) => {
      const record = await client.invocation(id).catch(() => undefined);
      if (record?.state === 'succeeded' || record?.state === 'dead') waiting.delete(id);
      if (record?.state === 'dead') this.#dead.push(JSON.stringify(record));
    };
    await waitFor(
      'the end of all events',
      async () => {
        for (const ids of chunks([...waiting], 8)) await Promise.all(ids.map(look));
        return waiting.size === 0;
      },
      EVENTS_END_MS_MAX,
    ).catch(() => {});
    const describe = async (id: string) => JSON.stringify(await client.invocation(id).catch(String));
    return await Promise.all([...waiting].map(async (id) => `${id} ${await describe(id)}`));
  }
}

function chunks<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}
