/** `skiff ps`: the members of an application on the server. Without a compose file, all functions. */
import type { Command } from '@commander-js/extra-typings';
import type { FunctionRecord, ServiceState } from '../../../client/index.ts';
import { ApplicationLabel } from '../../../compose/function-wish.ts';
import { tryFindFiles } from '../../../compose/load/file-set.ts';
import { addProjectOptions, readProject } from '../../application/options.ts';
import { membersOf } from '../../application/plan.ts';
import { openClient } from '../../connection/server.ts';
import { formatAgo } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff ps              members of the application of this folder
  $ skiff ps -p shop      of another one, by its name
  $ skiff ps --json
`;

export function define(command: Command, session: Session): void {
  addProjectOptions(command)
    .option('--json', 'print the functions as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const hasFile = options.file !== undefined || tryFindFiles(session.cwd) !== undefined;
      const { namespace, projectName } = options;
      const name =
        projectName ?? (hasFile ? readProject(session, { ...options, profile: ['*'] }).name : undefined);
      const client = openClient(session);
      const { signal } = session;
      const [all, services] = await Promise.all([client.list({ signal }), client.services.list({ signal })]);
      const functions =
        name === undefined ? all : membersOf(all, { name, ...(namespace !== undefined && { namespace }) });
      if (options.json) return session.output.json(functions);
      if (functions.length === 0)
        session.output.err.line(
          name === undefined ? 'no functions' : `${name} has nothing on the server; skiff up creates it`,
        );
      else printTable(session.output.out, createColumns(services), functions);
    });
}

function createColumns(services: readonly ServiceState[]): Column<FunctionRecord>[] {
  return [
    { title: 'SERVICE', value: ({ name, labels }) => labels?.[ApplicationLabel.service] ?? name },
    { title: 'FUNCTION', isSpare: true, value: ({ name }) => name },
    {
      title: 'STATE',
      value: ({ live }) => (live === undefined ? 'not live' : live.targets.length > 1 ? 'canary' : 'live'),
    },
    {
      title: 'REPLICAS',
      value({ name }) {
        const state = services.find(({ service }) => service.spec.functionName === name);
        return state ? `${state.running}/${state.desired}` : '-';
      },
    },
    {
      title: 'SANDBOXES',
      isSpare: true,
      align: 'right',
      value: ({ sandboxes }) => (sandboxes === undefined ? '?' : String(sandboxes)),
    },
    {
      title: 'CHANGED',
      isSpare: true,
      value: ({ live, createdMs }) => formatAgo(live?.updatedMs ?? createdMs, Date.now()),
    },
    {
      title: 'URL',
      value: ({ name, url }) =>
        services.find(({ service }) => service.spec.functionName === name)?.url ?? url,
    },
  ];
}
