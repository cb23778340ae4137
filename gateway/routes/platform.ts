/** What operators and machines ask: alive, ready, metrics, the description of the API. */
import { describeReason } from '../middleware/problem.ts';
import type { GatewayParts } from '../parts.ts';
import { isAnyRunnerAlive } from './nodes.ts';
import { createOpenApi } from './openapi.ts';
import type { Handlers } from './route.ts';

type PlatformRoutes = 'readHealth' | 'readReadiness' | 'readMetrics' | 'readOpenApi';

const CHECK_MS_MAX = 2_000;

export function createPlatformHandlers(parts: GatewayParts): Pick<Handlers, PlatformRoutes> {
  let openApi: ReturnType<typeof createOpenApi> | undefined;
  return {
    readHealth: async () => ({ ok: true }),

    async readReadiness(_input, c) {
      const checks = await runChecks(parts);
      const ready = Object.values(checks).every(({ ok }) => ok) && !parts.stopping.aborted;
      return c.json({ ready, checks }, ready ? 200 : 503);
    },

    readMetrics: async (_input, c) =>
      c.body(parts.metrics.render(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),

    async readOpenApi() {
      openApi ??= createOpenApi(parts.publicUrl, parts.version);
      return openApi;
    },
  };
}

interface Check {
  readonly ok: boolean;
  readonly reason?: string;
}

async function runChecks({ durable, fast, registry }: GatewayParts): Promise<Record<string, Check>> {
  const checks: Record<string, () => Promise<unknown>> = {
    redisDurable: () => durable.ping(),
    redisFast: () => fast.ping(),
    registry: () => registry.ping(),
    runner: async () => {
      if (!(await isAnyRunnerAlive(fast))) throw new Error('no runner is alive');
    },
  };
  const names = Object.keys(checks);
  const results = await Promise.all(Object.values(checks).map(runCheck));
  return Object.fromEntries(names.map((name, i) => [name, results[i] as Check]));
}

async function runCheck(check: () => Promise<unknown>): Promise<Check> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${CHECK_MS_MAX} ms`)), CHECK_MS_MAX);
  });
  try {
    await Promise.race([check(), limit]);
    return { ok: true };
  } catch (error) {
    return { ok: false, reason: describeReason(error) };
  } finally {
    clearTimeout(timer);
  }
}
