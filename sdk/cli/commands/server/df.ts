/** `skiff df`: every store has a budget. */
import type { Command } from '@commander-js/extra-typings';
import type { Usage } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { formatBytes } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff df
  $ skiff df --json | jq '.[] | select(.bytes > .bytesMax * 0.8) | .store'
`;

export function define(command: Command, session: Session): void {
  command
    .option('--json', 'print the rows')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const stores = await openClient(session).df({ signal: session.signal });
      if (options.json) return session.output.json(stores);
      printTable(session.output.out, COLUMNS, stores);
    });
}

const COLUMNS: Column<Usage>[] = [
  { title: 'STORE', value: (row) => row.store },
  { title: 'SIZE', value: (row) => formatOptional(row.bytes), align: 'right' },
  { title: 'LIMIT', value: (row) => formatOptional(row.bytesMax), align: 'right' },
  { title: 'ITEMS', value: (row) => String(row.count ?? ''), align: 'right' },
  { title: 'LIMIT', value: (row) => String(row.countMax ?? ''), align: 'right' },
  {
    title: 'RECLAIMABLE',
    isSpare: true,
    value: (row) => formatOptional(row.reclaimableBytes),
    align: 'right',
  },
  { title: 'USED', value: formatShare, align: 'right' },
];

function formatOptional(bytes: number | undefined): string {
  return bytes === undefined ? '' : formatBytes(bytes);
}

/** The fuller of the two budgets is the one that will be felt. */
function formatShare(row: Usage): string {
  const shares = [share(row.bytes, row.bytesMax), share(row.count, row.countMax)].filter(
    (part) => part !== undefined,
  );
  return shares.length === 0 ? '' : `${Math.round(Math.max(...shares) * 100)}%`;
}

function share(used: number | undefined, max: number | undefined): number | undefined {
  return used === undefined || max === undefined || max === 0 ? undefined : used / max;
}
