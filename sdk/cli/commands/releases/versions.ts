/** `skiff versions`. */
import type { Command } from '@commander-js/extra-typings';
import type { Deployment } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { formatAgo, formatBytes } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff versions hello
  $ skiff rollback hello "$(skiff versions hello -q | sed -n 3p)"
`;

interface Row extends Deployment {
  readonly weight: number;
}

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .option('-q, --quiet', 'print ids only, newest first')
    .option('--json', 'print the deployments')
    .addHelpText('after', EXAMPLES)
    .action(async (name, options) => {
      const client = openClient(session);
      const { out } = session.output;
      const [record, deployments] = await Promise.all([
        client.get(name, { signal: session.signal }),
        client.deployments(name, { signal: session.signal }),
      ]);
      const weights = new Map(record.live?.targets.map((target) => [target.deployment, target.weight]));
      const rows = deployments.map((deployment): Row => ({
        ...deployment,
        weight: weights.get(deployment.id) ?? 0,
      }));
      if (options.json) return session.output.json(rows);
      if (options.quiet) return rows.forEach(({ id }) => out.line(id));
      printTable(out, createColumns(Date.now()), rows);
    });
}

const DIGEST_CHARS = 19;

function createColumns(nowMs: number): Column<Row>[] {
  return [
    { title: 'DEPLOYMENT', value: (row) => row.id },
    { title: 'DEPLOYED', value: (row) => formatAgo(row.createdMs, nowMs) },
    { title: 'TRAFFIC', value: (row) => (row.weight === 0 ? '' : `${row.weight}%`), align: 'right' },
    { title: 'RUNTIME', isSpare: true, value: (row) => row.config.runtime },
    { title: 'SIZE', isSpare: true, value: (row) => formatBytes(row.image.bytes), align: 'right' },
    { title: 'IMAGE', isSpare: true, value: (row) => row.image.digest.slice(0, DIGEST_CHARS) },
  ];
}
