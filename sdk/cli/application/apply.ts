/**
 * Carries a plan out: secrets first, then members as soon as what they depend on is live, a few at a time, then
 * orphans. Invariant: what fails keeps those that depend on it from starting, and nothing else; what was live stays.
 */
import type { BuildEvent } from '../../client/index.ts';
import { wait } from '../../client/retry.ts';
import { ApplicationLabel } from '../../compose/function-wish.ts';
import type { CliClient } from '../connection/server.ts';
import type { Board } from '../output/board.ts';
import { formatMs } from '../output/quantities.ts';
import { readSource } from '../source/pack.ts';
import type { Member, Plan } from './plan.ts';
import type { SecretPlan } from './secrets.ts';

export interface AppliedMember {
  readonly service: string;
  readonly name: string;
  readonly action: Member['action'];
  readonly url?: string | undefined;
  readonly deployment?: string;
  readonly error?: string;
}

/** The builder works on as many at a time; more would only wait there. */
const AT_ONCE_MAX = 4;

export async function applyMembers(
  client: CliClient,
  plan: Plan,
  secrets: readonly SecretPlan[],
  board: Board,
  signal: AbortSignal,
): Promise<AppliedMember[]> {
  for (const { name, action, read } of secrets) {
    if (action !== 'keep') await client.secrets.set(name, read(), { signal });
  }
  const gate = createGate(AT_ONCE_MAX);
  const running = new Map<string, Promise<AppliedMember>>();
  for (const member of plan.members) {
    // Dependencies come first in the plan, so that theirs are running already.
    const needed = Object.keys(member.service.dependsOn).flatMap((name) => running.get(name) ?? []);
    running.set(member.service.name, applyOne(client, member, needed, gate, board, signal));
  }
  return Promise.all(running.values());
}

async function applyOne(
  client: CliClient,
  member: Member,
  needed: readonly Promise<AppliedMember>[],
  gate: Gate,
  board: Board,
  signal: AbortSignal,
): Promise<AppliedMember> {
  const { service, wish, action } = member;
  const base = { service: service.name, name: wish.name, action };
  const failed = (await Promise.all(needed)).find(({ error }) => error !== undefined);
  if (failed) {
    const error = `needs ${failed.service}, which failed`;
    board.done(service.name, 'skipped', error);
    return { ...base, error };
  }
  const { replicas, runsOnce = false } = member;
  if (action === 'keep' && !runsOnce && (replicas === undefined || replicas.action === 'keep')) {
    board.done(service.name, 'ok', `unchanged  ${member.url ?? ''}`.trimEnd());
    return { ...base, url: member.url };
  }
  return gate(async () => {
    try {
      const result = action === 'keep' ? undefined : await deploy(client, member, board, signal);
      const settled = replicas && (await settleReplicas(client, member, board, signal));
      const url = settled?.url ?? result?.url ?? member.url;
      const ran = runsOnce && (await runOnce(client, member, board, signal));
      const isKept = action === 'keep' && (replicas?.action ?? 'keep') === 'keep';
      const done = isKept ? 'unchanged' : action === 'create' ? 'created' : 'updated';
      const words = [done, settled?.words, ran, url].filter(Boolean).join('  ');
      board.done(service.name, 'ok', words);
      return { ...base, url, ...(result && { deployment: result.deployment }) };
    } catch (error) {
      const { message } = error as Error;
      board.done(service.name, 'failed', message.split('\n', 1)[0] ?? 'failed');
      return { ...base, error: message };
    }
  });
}

const CANCEL_MS_MAX = 3_000;

async function deploy(client: CliClient, member: Member, board: Board, signal: AbortSignal) {
  const { service, wish, source, hash } = member;
  const { labels } = wish.config as { labels: object };
  let build: string | undefined;
  board.set(service.name, 'upload');
  const showShare = (percent: number): void => board.set(service.name, `upload ${percent} %`);
  try {
    return await client.deploy(wish.name, {
      ...(source ? { source: () => readSource(source, showShare) } : { image: wish.image }),
      entry: wish.entry,
      config: { ...wish.config, labels: { ...labels, [ApplicationLabel.hash]: hash } },
      signal,
      onStarted: (started) => {
        build = started.build;
        board.set(service.name, 'queue');
      },
      onEvent: (event: BuildEvent) => {
        if (event.type === 'step' && event.status === 'start') board.set(service.name, event.step);
      },
    });
  } catch (error) {
    // Ctrl-C takes back what was ordered.
    if (signal.aborted && build !== undefined)
      await client.cancelBuild(build, { signal: AbortSignal.timeout(CANCEL_MS_MAX) }).catch(() => {});
    throw error;
  }
}

/** As docker compose does with what runs to its end: with every `up`, also when nothing has changed. */
async function runOnce(
  client: CliClient,
  { service, wish }: Member,
  board: Board,
  signal: AbortSignal,
): Promise<string> {
  board.set(service.name, 'running');
  const started = performance.now();
  const answer = await client.fetch(wish.name, { method: 'POST', signal });
  const text = (await answer.text()).trim();
  if (answer.status < 200 || answer.status > 299)
    throw new Error(
      `it answered ${answer.status} and not 2xx${text === '' ? '' : `: ${text.slice(0, 500)}`}`,
    );
  return `completed in ${formatMs(performance.now() - started)}`;
}

const CONVERGE_MS_MAX = 120_000;
const POLL_MS = 300;

/** Creates or changes the service of a member and waits until its replicas run. */
async function settleReplicas(
  client: CliClient,
  { service, wish, replicas: planned }: Member,
  board: Board,
  signal: AbortSignal,
): Promise<{ words: string; url: string }> {
  if (!wish.replicas) throw new Error(`${service.name} has no replicas`);
  const { name, mode, ...asked } = wish.replicas;
  const rest = {
    ...asked,
    constraints: [...asked.constraints],
    preferences: [...asked.preferences],
  };
  if (planned?.action === 'create') {
    await client.services.create({ ...rest, name, mode, functionName: wish.name }, { signal });
  } else if (planned?.action === 'update') {
    await client.services.update(name, { ...rest, deployment: 'latest' }, { signal });
  }
  const deadline = performance.now() + CONVERGE_MS_MAX;
  for (;;) {
    const { running, desired, message, url, service: state } = await client.services.get(name, { signal });
    const isChanging = state.updateStatus?.state === 'updating';
    const words = `${running}/${desired} running`;
    if (running === desired && !isChanging) return { words, url };
    board.set(service.name, [words, message].filter(Boolean).join(', '));
    if (performance.now() > deadline)
      throw new Error(`${words}${message === undefined ? '' : `: ${message}`}`);
    await wait(POLL_MS, signal);
  }
}

export async function removeFunctions(
  client: CliClient,
  names: readonly string[],
  board: Board,
  signal: AbortSignal,
): Promise<boolean> {
  let isWhole = true;
  await Promise.all(
    names.map(async (name) => {
      board.set(name, 'removing');
      try {
        // Services that run it first: nothing is to be started again.
        for (const { service } of (await client.services.list({ signal })).filter(
          (one) => one.service.spec.functionName === name,
        ))
          await client.services.remove(service.name, { signal });
        for (const schedule of await client.schedules.list({ signal }))
          if (schedule.function === name) await client.schedules.remove(schedule.name, { signal });
        await client.remove(name, { signal });
        board.done(name, 'ok', 'removed');
      } catch (error) {
        isWhole = false;
        board.done(name, 'failed', (error as Error).message);
      }
    }),
  );
  return isWhole;
}

type Gate = <Result>(run: () => Promise<Result>) => Promise<Result>;

function createGate(atOnceMax: number): Gate {
  let active = 0;
  const waiting: (() => void)[] = [];
  return async (run) => {
    if (active >= atOnceMax) await new Promise<void>((resolve) => waiting.push(resolve));
    active++;
    try {
      return await run();
    } finally {
      active--;
      waiting.shift()?.();
    }
  };
}
