/** `skiff ls`. */
import type { Command } from '@commander-js/extra-typings';
import type { FunctionRecord } from '../../../client/index.ts';
import { namespaceOf } from '../../../protocol/reach/namespaces.ts';
import { openClient } from '../../connection/server.ts';
import { formatAgo } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff ls
  $ skiff ls -q | xargs -n1 skiff logs --tail 3    names only, one a line
  $ skiff ls --json | jq -r '.[].url'
`;

export function define(command: Command, session: Session): void {
  command
    .option('--namespace <namespace>', 'only functions of this namespace')
    .option('-q, --quiet', 'print names only')
    .option('--json', 'print the records')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const { out, err } = session.output;
      const all = await openClient(session).list({ signal: session.signal });
      const { namespace } = options;
      const functions = all.filter(({ name }) => namespace === undefined || namespaceOf(name) === namespace);
      if (options.json) return session.output.json(functions);
      if (options.quiet) return functions.forEach(({ name }) => out.line(name));
      if (functions.length === 0)
        return err.line('no functions yet; make one: skiff init hello && skiff deploy hello');
      printTable(out, createColumns(Date.now()), functions);
    });
}

function createColumns(nowMs: number): Column<FunctionRecord>[] {
  return [
    { title: 'NAME', value: (row) => row.name },
    {
      title: 'LIVE',
      value: (row) => (row.live ? describeTraffic(row.live.targets) : 'none'),
      isFlexible: true,
    },
    {
      title: 'UPDATED',
      isSpare: true,
      value: (row) => formatAgo(row.live?.updatedMs ?? row.createdMs, nowMs),
    },
    { title: 'RUNTIME', isSpare: true, value: (row) => row.runtime ?? '' },
    { title: 'SANDBOXES', isSpare: true, value: (row) => String(row.sandboxes ?? ''), align: 'right' },
    { title: 'URL', value: (row) => row.url },
  ];
}

/** `dep-1` or `10% dep-2, 90% dep-1`. */
export function describeTraffic(targets: readonly { deployment: string; weight: number }[]): string {
  const [only, second] = targets;
  if (only !== undefined && second === undefined) return only.deployment;
  return targets.map(({ deployment, weight }) => `${weight}% ${deployment}`).join(', ');
}
