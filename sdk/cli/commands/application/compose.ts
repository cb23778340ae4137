/**
 * `skiff compose`: what docker compose (2.36 and newer) runs for a service with `provider: { type: skiff }`.
 * The protocol: arguments `--project-name P up --option=value … SERVICE`; lines of JSON on stdout, of which `setenv`
 * gives variables to the services that depend on this one, with its name in front. `up` may come again and again.
 */
import { resolve } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import type { Project, Service } from '../../../compose/model.ts';
import { createService } from '../../../compose/load/service.ts';
import { memberName } from '../../../compose/function-wish.ts';
import { applyMembers } from '../../application/apply.ts';
import { makePlan } from '../../application/plan.ts';
import { openClient } from '../../connection/server.ts';
import { CliFailure, ExitCode, usage } from '../../failure.ts';
import type { Board } from '../../output/board.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff compose --project-name shop up --source=./resize --memory=256MB --env=STAGE=test resize
  $ skiff compose --project-name shop down resize

Docker compose runs these for a service such as:

  services:
    resize:
      provider:
        type: skiff
        options: { source: ./resize, memory: 256MB, env: [STAGE=test] }
    web:
      image: nginx
      depends_on: [resize]       gets RESIZE_URL
`;

const VERBS = ['up', 'down', 'stop', 'metadata'] as const;
type Verb = (typeof VERBS)[number];

export function define(command: Command, session: Session): void {
  command
    .argument('[words...]', 'as docker compose gives them')
    .option('--project-name <name>', 'name of the application')
    .allowUnknownOption()
    .addHelpText('after', EXAMPLES)
    .action(async (words, { projectName }) => {
      const { verb, options, service } = parseWords(words);
      if (verb === 'metadata') return printMetadata(session);
      if (projectName === undefined) throw usage('compose: --project-name is needed');
      if (service === undefined) throw usage(`compose ${verb}: the name of the service is needed`);
      // Functions that nobody calls cost nothing: there is nothing to stop.
      if (verb === 'stop') return tell(session, 'info', `${service} has nothing to stop`);
      const project = createProject(session, projectName, service, options);
      await (verb === 'up' ? up(session, project) : down(session, project));
    });
}

interface Words {
  readonly verb: Verb;
  readonly options: Readonly<Record<string, readonly string[]>>;
  readonly service: string | undefined;
}

function parseWords([first, ...rest]: readonly string[]): Words {
  const verb = VERBS.find((known) => known === first);
  if (verb === undefined)
    throw usage(`compose: "${first ?? ''}" is not one of ${VERBS.join(', ')}`, 'for compose files: skiff up');
  const options: Record<string, string[]> = {};
  let service: string | undefined;
  for (const word of rest) {
    const match = /^--([^=]+)(?:=([^]*))?$/.exec(word);
    if (match?.[1] === undefined) service = word;
    else (options[match[1]] ??= []).push(match[2] ?? 'true');
  }
  return { verb, options, service };
}

function createProject(session: Session, name: string, service: string, options: Words['options']): Project {
  const source = resolve(session.cwd, options['source']?.[0] ?? '.');
  const provider = { type: 'skiff', options: { ...options, source: [source] } };
  const member = createService(service, { provider }, {});
  const empty = { networks: {}, volumes: {}, secrets: {}, configs: {} };
  return { name, folder: session.cwd, files: [], services: [member], inactive: [], notes: [], ...empty };
}

async function up(session: Session, project: Project): Promise<void> {
  const client = openClient(session);
  try {
    const plan = await makePlan(client, project, { signal: session.signal });
    const board: Board = {
      set: (_name, status) => tell(session, 'info', status),
      done: () => {},
      stop: () => {},
    };
    const [member] = await applyMembers(client, plan, [], board, session.signal);
    if (member?.error !== undefined) throw new CliFailure(member.error);
    tell(session, 'info', member?.action === 'keep' ? 'unchanged' : 'live');
    tell(session, 'setenv', `URL=${member?.url ?? ''}`);
    tell(session, 'setenv', `FUNCTION=${member?.name ?? ''}`);
  } catch (error) {
    tell(session, 'error', (error as Error).message);
    session.exitCode = ExitCode.failed;
  }
}

async function down(session: Session, project: Project): Promise<void> {
  const [service] = project.services;
  const name = memberName(project, service as Service);
  const client = openClient(session);
  try {
    const isThere = (await client.list({ signal: session.signal })).some((one) => one.name === name);
    if (isThere) await client.remove(name, { signal: session.signal });
    tell(session, 'info', isThere ? 'removed' : 'was not there');
  } catch (error) {
    tell(session, 'error', (error as Error).message);
    session.exitCode = ExitCode.failed;
  }
}

function tell({ output: { out } }: Session, type: 'info' | 'error' | 'setenv', message: string): void {
  out.line(JSON.stringify({ type, message }));
}

/** What docker compose may show of the options. */
function printMetadata({ output: { out } }: Session): void {
  const parameter = (name: string, description: string, type = 'string') => ({
    name,
    description,
    type,
    required: false,
  });
  out.line(
    JSON.stringify({
      description: 'Functions on Skiff',
      up: {
        parameters: [
          parameter('source', 'folder or file of the function'),
          parameter('name', 'name on the server (default: project-service)'),
          parameter('entry', 'module inside the folder'),
          parameter('memory', 'of a sandbox, such as 256MB'),
          parameter('timeout', 'of one invocation, such as 30s'),
          parameter('concurrency', 'invocations in one sandbox at a time', 'integer'),
          parameter('env', 'NAME=value; may be given several times'),
        ],
      },
      down: { parameters: [] },
    }),
  );
}
