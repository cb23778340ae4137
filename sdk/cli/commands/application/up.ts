/** `skiff up`: an application of a compose file, created or brought up to date with one command. */
import type { Command } from '@commander-js/extra-typings';
import type { FunctionRecord } from '../../../client/index.ts';
import type { Project } from '../../../compose/model.ts';
import type { Finding } from '../../../compose/support.ts';
import { type AppliedMember, applyMembers, removeFunctions } from '../../application/apply.ts';
import { followApplication } from '../../application/follow.ts';
import { addProjectOptions, printNotes, readProject } from '../../application/options.ts';
import { makePlan, membersOf, type Plan } from '../../application/plan.ts';
import { applySchedules, planSchedules, type SchedulePlan } from '../../application/schedules.ts';
import { planSecrets, type SecretPlan } from '../../application/secrets.ts';
import { type CliClient, openClient } from '../../connection/server.ts';
import { CliFailure, ExitCode } from '../../failure.ts';
import { createBoard } from '../../output/board.ts';
import { formatMs, plural } from '../../output/quantities.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff up                          create or update all, then show the logs
  $ skiff up -d                       without the logs
  $ skiff up --dry-run                only show what would happen
  $ skiff up -f compose.yaml -f compose.prod.yaml --profile full
  $ skiff up -d --remove-orphans      also remove what is in the files no more

Services with x-skiff-function are functions, with build as the folder of their source; others are kept running, with
deploy.replicas. All are reached at /f/<application>-<service>:

  services:
    api:
      build: ./api
      x-skiff-function: { memory: 256MB }
      environment: { STAGE: test }
`;

export function define(command: Command, session: Session): void {
  addProjectOptions(command)
    .argument('[services...]', 'only these, with what they depend on')
    .option('-d, --detach', 'do not show logs afterwards')
    .option('--dry-run', 'show what would happen and change nothing')
    .option('--remove-orphans', 'remove functions of the application that are in the files no more')
    .option('--force-recreate', 'deploy also what has not changed')
    .option('--ignore-unsupported', 'go on although keys that cannot be obeyed are in the files')
    .option('--json', 'print { name, members, removed }')
    .addHelpText('after', EXAMPLES)
    .action(async (services, options) => {
      const project = readProject(session, options, services);
      printNotes(session, project);
      const client = openClient(session);
      const { signal } = session;
      const isForced = options.forceRecreate === true;
      const plan = await makePlan(client, project, { isForced, signal });
      const secrets = await planSecrets(client, project, session);
      const wishes = plan.members.map(({ wish }) => wish);
      const schedules = await planSchedules(client, wishes, session);
      checkPlan(session, plan, options.ignoreUnsupported === true);
      // Services that were left out by name are no orphans.
      const orphans = services.length > 0 ? [] : plan.orphans;
      if (options.dryRun) return printPlan(session, plan, { secrets, schedules, orphans }, options);
      const removed = options.removeOrphans ? orphans : [];
      const members = await apply(session, client, plan, secrets, removed);
      const isWhole = members.every(({ error }) => error === undefined);
      if (isWhole) await applySchedules(client, schedules, session);
      if (options.json)
        session.output.json({ name: project.name, members, removed: removed.map(({ name }) => name) });
      warnOfOrphans(session, orphans, removed);
      if (!isWhole) session.exitCode = ExitCode.notConverged;
      else if (!options.detach && !options.json) await showLogs(session, client, project);
    });
}

/** @throws CliFailure with every key that cannot be obeyed */
function checkPlan({ output: { err } }: Session, plan: Plan, isIgnored: boolean): void {
  const { refused } = plan.judgement;
  const format = ({ path, reason }: Finding): string => `  ${path}: ${reason}`;
  if (plan.judgement.moot.length > 0) {
    err.line(err.style('dim', 'without effect here:'));
    for (const finding of plan.judgement.moot) err.line(err.style('dim', format(finding)));
  }
  if (refused.length === 0) return;
  if (!isIgnored) {
    throw new CliFailure(`the files say what cannot be done:\n${refused.map(format).join('\n')}`, {
      exitCode: ExitCode.usage,
      hint: 'go on without them: --ignore-unsupported',
    });
  }
  err.line(err.style('yellow', 'left out:'));
  for (const finding of refused) err.line(format(finding));
}

const SIGNS = { create: '+', update: '~', keep: '=' } as const;
const COLOURS = { create: 'green', update: 'yellow', keep: 'dim' } as const;

interface OtherPlans {
  readonly secrets: readonly SecretPlan[];
  readonly schedules: readonly SchedulePlan[];
  readonly orphans: readonly FunctionRecord[];
}

function printPlan(
  { output }: Session,
  plan: Plan,
  { secrets, schedules, orphans }: OtherPlans,
  { removeOrphans, json }: { readonly removeOrphans?: true | undefined; readonly json?: true | undefined },
): void {
  const members = plan.members.map(({ service, wish, action, reason, replicas }) => ({
    service: service.name,
    name: wish.replicas?.name ?? wish.name,
    action: action === 'keep' && replicas ? replicas.action : action,
    reason: [reason, replicas?.reason].filter(Boolean).join(', '),
  }));
  if (json) {
    return output.json({
      name: plan.project.name,
      members,
      secrets: secrets.map(({ name, action }) => ({ name, action })),
      schedules: schedules.map(({ name, action }) => ({ name, action })),
      orphans: orphans.map(({ name }) => name),
    });
  }
  const { out } = output;
  const row = (action: keyof typeof SIGNS, name: string, text: string): void =>
    out.line(out.style(COLOURS[action], `${SIGNS[action]} ${name}  ${text}`.trimEnd()));
  out.line(out.style('bold', plan.project.name));
  for (const { name, action } of secrets)
    row(action, `secret ${name}`, action === 'update' ? 'the file is newer' : '');
  for (const { service, name, action, reason } of members) row(action, `${service} (${name})`, reason);
  for (const { name, action, wish } of schedules) {
    if (action === 'remove') out.line(out.style('red', `- schedule ${name}`));
    else row(action, `schedule ${name}`, describeTiming(wish));
  }
  const fate = removeOrphans ? 'is removed' : 'is in the files no more; --remove-orphans removes it';
  for (const { name } of orphans) out.line(out.style('red', `- ${name}  ${fate}`));
}

function describeTiming(wish: SchedulePlan['wish']): string {
  const { cron, every, at } = wish ?? {};
  return cron ?? (every === undefined ? `once at ${at}` : `every ${formatMs(Number(every))}`);
}

async function apply(
  session: Session,
  client: CliClient,
  plan: Plan,
  secrets: readonly SecretPlan[],
  removed: readonly FunctionRecord[],
): Promise<AppliedMember[]> {
  const names = [...plan.members.map(({ service }) => service.name), ...removed.map(({ name }) => name)];
  const board = createBoard(session.output.err, names);
  try {
    const members = await applyMembers(client, plan, secrets, board, session.signal);
    const isWhole = members.every(({ error }) => error === undefined);
    // Last, and only when what takes their place is there.
    if (isWhole)
      await removeFunctions(
        client,
        removed.map(({ name }) => name),
        board,
        session.signal,
      );
    board.stop();
    session.signal.throwIfAborted();
    for (const { service, error } of members) {
      if (error?.includes('\n')) session.output.err.line(`\n${service}: ${error}`);
    }
    return members;
  } finally {
    board.stop();
  }
}

function warnOfOrphans(
  { output: { err } }: Session,
  orphans: readonly FunctionRecord[],
  removed: readonly FunctionRecord[],
): void {
  const left = orphans.filter((one) => !removed.includes(one)).map(({ name }) => name);
  if (left.length === 0) return;
  const text = `${plural(left.length, 'function')} of this application in the files no more: ${left.join(', ')}`;
  err.line(
    `${err.style('yellow', 'note:')} ${text}; --remove-orphans removes ${left.length === 1 ? 'it' : 'them'}`,
  );
}

async function showLogs(session: Session, client: CliClient, project: Project): Promise<void> {
  const { err } = session.output;
  err.line(err.style('dim', 'logs follow; Ctrl-C leaves the application running (skiff down removes it)'));
  const functions = membersOf(await client.list({ signal: session.signal }), project);
  await followApplication(session, client, functions, { follow: true, tail: 0, signal: session.signal });
}
