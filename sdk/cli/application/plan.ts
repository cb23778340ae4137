/**
 * What `skiff up` would do: the application as its files want it, against what the server has.
 * Invariant: making a plan changes nothing. A member whose hash is that of its live deployment is left alone, so that
 * the second `up` does nothing; who belongs to an application is said by labels of its functions.
 */
import { createHash } from 'node:crypto';
import type { FunctionRecord } from '../../client/index.ts';
import { ApplicationLabel, createFunctionWish, type FunctionWish } from '../../compose/function-wish.ts';
import type { Project, Service } from '../../compose/model.ts';
import { judge, type Judgement, kindOf } from '../../compose/support.ts';
import type { CliClient } from '../connection/server.ts';
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
  readonly source: SourceFiles;
  readonly sourceBytes: number;
  /** Of a function that is there already. */
  readonly url?: string;
}

export interface Plan {
  readonly project: Project;
  /** Dependencies first. */
  readonly members: readonly Member[];
  /** On the server, and in none of the files any more. */
  readonly orphans: readonly FunctionRecord[];
  /** Services that are no functions. */
  readonly services: readonly Service[];
  readonly judgement: Judgement;
}

export async function makePlan(
  client: CliClient,
  project: Project,
  options: { readonly isForced?: boolean; readonly signal: AbortSignal },
): Promise<Plan> {
  const judgement = judge(project.services);
  const functions = project.services.filter((service) => kindOf(service) === 'function');
  const wishes = functions.map((service) => ({ service, wish: createFunctionWish(project, service) }));
  const known = await client.list({ signal: options.signal });
  const members: Member[] = [];
  for (const { service, wish } of wishes) {
    const record = known.find(({ name }) => name === wish.name);
    members.push(await planMember(client, project, service, wish, record, options));
  }
  const names = new Set(wishes.map(({ wish }) => wish.name));
  // A service whose profile is not active is not gone: it is only not wanted now.
  const inactive = new Set(project.inactive);
  const orphans = membersOf(known, project.name).filter(
    ({ name, labels }) => !names.has(name) && !inactive.has(labels?.[ApplicationLabel.service] ?? ''),
  );
  return {
    project,
    members,
    orphans,
    services: project.services.filter((service) => kindOf(service) === 'service'),
    judgement,
  };
}

/** Functions on the server that belong to an application. */
export function membersOf(functions: readonly FunctionRecord[], project: string): FunctionRecord[] {
  return functions.filter(({ labels }) => labels?.[ApplicationLabel.project] === project);
}

async function planMember(
  client: CliClient,
  project: Project,
  service: Service,
  wish: FunctionWish,
  record: FunctionRecord | undefined,
  { isForced, signal }: { readonly isForced?: boolean; readonly signal: AbortSignal },
): Promise<Member> {
  const source = findSource(wish.source ?? project.folder);
  const sourceBytes = measureSource(source.files);
  const digest = await digestSource(source);
  const entry = wish.entry ?? source.entry;
  const hash = createHash('sha256')
    .update(JSON.stringify([digest, entry, wish.image, wish.config]))
    .digest('hex')
    .slice(0, 32);
  const member = {
    service,
    wish: entry === undefined ? wish : { ...wish, entry },
    hash,
    source,
    sourceBytes,
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
    ...(deployment.source?.digest === digest ? [] : ['source']),
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
