/**
 * What `skiff up` would do: the application as its files want it, against what the server has.
 * Invariant: making a plan changes nothing. A member whose hash is that of its live deployment is left alone, so that
 * the second `up` does nothing; who belongs to an application is said by labels of its functions.
 */
import { createHash } from 'node:crypto';
import type { FunctionRecord, ServiceState } from '../../client/index.ts';
import { ApplicationLabel, createFunctionWish, type FunctionWish } from '../../compose/function-wish.ts';
import type { Project, Service } from '../../compose/model.ts';
import type { ReplicasWish } from '../../compose/service-wish.ts';
import { judge, type Judgement } from '../../compose/support.ts';
import type { CliClient } from '../connection/server.ts';
import { namespaceOf } from '../../protocol/reach/namespaces.ts';
import { findSource, type SourceFiles } from '../source/files.ts';
import { measureSource } from '../source/pack.ts';
import { digestSource } from './source-digest.ts';

export type Action = 'create' | 'update' | 'keep';

export interface Member {
  readonly service: Service;
  readonly wish: FunctionWish;
  readonly action: Action;
  readonly reason: string;
  readonly hash: string;
  /** Absent: an image is deployed. */
  readonly source?: SourceFiles;
  /** Of a function that is there already. */
  readonly url?: string;
  /** Others wait for its end: it is called once, and must answer 2xx. */
  readonly runsOnce?: boolean;
  /** What is to happen to its replicas, when it is a service. */
  readonly replicas?: { readonly action: Action; readonly reason: string };
}

export interface Plan {
  readonly project: Project;
  /** Dependencies first. */
  readonly members: readonly Member[];
  /** On the server, and in none of the files any more. */
  readonly orphans: readonly FunctionRecord[];
  readonly judgement: Judgement;
}

export async function makePlan(
  client: CliClient,
  project: Project,
  options: { readonly isForced?: boolean; readonly signal: AbortSignal },
): Promise<Plan> {
  const judgement = judge(project);
  const wishes = project.services.map((service) => ({ service, wish: createFunctionWish(project, service) }));
  const [known, states] = await Promise.all([client.list(options), client.services.list(options)]);
  const members: Member[] = [];
  for (const { service, wish } of wishes) {
    const record = known.find(({ name }) => name === wish.name);
    const member = await planMember(client, project, service, wish, record, options);
    const state = states.find((one) => one.service.name === wish.replicas?.name);
    members.push(
      wish.replicas ? { ...member, replicas: planReplicas(wish.replicas, member, state) } : member,
    );
  }
  for (const [index, member] of members.entries())
    if (isAwaited(project, member.service)) members[index] = { ...member, runsOnce: true };
  const names = new Set(wishes.map(({ wish }) => wish.name));
  // A service whose profile is not active is not gone: it is only not wanted now.
  const inactive = new Set(project.inactive);
  const orphans = membersOf(known, project).filter(
    ({ name, labels }) => !names.has(name) && !inactive.has(labels?.[ApplicationLabel.service] ?? ''),
  );
  return {
    project,
    members,
    orphans,
    judgement,
  };
}

function isAwaited({ services }: Project, { name }: Service): boolean {
  return services.some(({ dependsOn }) => dependsOn[name]?.condition === 'service_completed_successfully');
}

/** Functions on the server that belong to an application. */
export function membersOf(
  functions: readonly FunctionRecord[],
  { name: project, namespace }: Pick<Project, 'name' | 'namespace'>,
): FunctionRecord[] {
  return functions.filter(
    ({ name, labels }) => labels?.[ApplicationLabel.project] === project && namespaceOf(name) === namespace,
  );
}

async function planMember(
  client: CliClient,
  project: Project,
  service: Service,
  wish: FunctionWish,
  record: FunctionRecord | undefined,
  { isForced, signal }: { readonly isForced?: boolean; readonly signal: AbortSignal },
): Promise<Member> {
  const source = wish.source === undefined ? undefined : findSource(wish.source);
  if (source) measureSource(source.files);
  const digest = source && (await digestSource(source));
  const entry = wish.entry ?? source?.entry;
  const hash = createHash('sha256')
    .update(JSON.stringify([digest ?? '', entry, wish.image, wish.config]))
    .digest('hex')
    .slice(0, 32);
  const member = {
    service,
    wish: entry === undefined ? wish : { ...wish, entry },
    hash,
    ...(source && { source }),
    ...(record && { url: record.url }),
  };
  const live = record?.live?.targets[0]?.deployment;
  if (record === undefined || live === undefined) return { ...member, action: 'create', reason: 'new' };
  if (isForced) return { ...member, action: 'update', reason: 'asked for' };
  if (record.labels?.[ApplicationLabel.hash] === hash) return { ...member, action: 'keep', reason: '' };
  const owner = record.labels?.[ApplicationLabel.project];
  if (owner !== project.name) {
    const whose = owner === undefined ? 'no application' : `the application ${owner}`;
    return { ...member, action: 'update', reason: `taken over from ${whose}` };
  }
  const deployment = await client.deployment(live, { signal });
  const changes = [
    ...(digest === undefined || deployment.source?.digest === digest ? [] : ['source']),
    ...findChangedSettings(wish.config, deployment.config),
  ];
  return { ...member, action: 'update', reason: changes.length === 0 ? 'settings' : changes.join(', ') };
}

/** Names of settings whose values, as far as they can be compared as texts, differ. */
function findChangedSettings(
  wanted: Readonly<Record<string, unknown>>,
  live: Readonly<Record<string, unknown>>,
): string[] {
  return ['env', 'secrets', 'network', 'calls', 'runtime', 'access', 'min', 'max', 'concurrency'].filter(
    (name) => name in wanted && JSON.stringify(wanted[name]) !== JSON.stringify(live[name]),
  );
}

function planReplicas(
  wanted: ReplicasWish & { readonly name: string },
  { action }: Pick<Member, 'action'>,
  state: ServiceState | undefined,
): { action: Action; reason: string } {
  if (!state) return { action: 'create', reason: '' };
  const { spec } = state.service;
  const { update, rollback = {}, name: _name, ...rest } = wanted;
  const changed = Object.entries(rest).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(spec[name as keyof typeof rest]),
  );
  const differs = (said: object, is: object = {}): boolean =>
    Object.entries(said).some(([name, value]) => value !== (is as Record<string, unknown>)[name]);
  const isUpdateChanged = differs(update, spec.update) || differs(rollback, spec.rollback);
  const reasons = [...changed.map(([name]) => name), ...(isUpdateChanged ? ['update'] : [])];
  if (action !== 'keep') reasons.unshift('deployment');
  return reasons.length === 0
    ? { action: 'keep', reason: '' }
    : { action: 'update', reason: reasons.join(', ') };
}
