/** `skiff volume`: what services keep on the disks of nodes. */
import type { Command } from '@commander-js/extra-typings';
import type { VolumeState } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { formatAgo, formatBytes } from '../../output/quantities.ts';
import { type Column, formatFields, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff volume ls
  $ skiff volume inspect shop-data
  $ skiff volume rm shop-data           with all that is in it; not while a service uses it
  $ skiff volume rm --force shop-data   also when the node that has it will never come back
  $ skiff volume prune                  all that no service uses

A volume begins with the service that names it: volumes of a compose.yaml (skiff up --help).
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineReads(command, session);
  defineChanges(command, session);
}

function defineReads(command: Command, session: Session): void {
  command
    .command('ls')
    .alias('list')
    .summary('list volumes')
    .option('-q, --quiet', 'only names')
    .option('--json', 'print the volumes as JSON')
    .action(async ({ quiet, json }) => {
      const volumes = await openClient(session).volumes.list({ signal: session.signal });
      const { out, err } = session.output;
      if (json) session.output.json(volumes);
      else if (quiet) for (const { name } of volumes) out.line(name);
      else if (volumes.length === 0) err.line('no volumes; a service of a compose.yaml makes them');
      else printTable(out, createColumns(Date.now()), volumes);
    });
  command
    .command('inspect')
    .summary('show one volume')
    .argument('<name>')
    .option('--json', 'print it as JSON')
    .action(async (name, { json }) => {
      const volume = await openClient(session).volumes.get(name, { signal: session.signal });
      if (json) return session.output.json(volume);
      const { out } = session.output;
      const fields = formatFields(out, [
        ['name', volume.name],
        ['node', volume.node],
        ['size', formatSize(volume)],
        ['used by', volume.service ?? 'no service'],
        ['made', new Date(volume.createdMs).toISOString()],
        ['state', stateOf(volume)],
      ]);
      for (const line of fields) out.line(line);
    });
}

function defineChanges(command: Command, session: Session): void {
  command
    .command('rm')
    .aliases(['remove', 'delete'])
    .summary('remove volumes and all that is in them')
    .argument('<names...>')
    .option('-f, --force', 'also those of a node that is down: they are forgotten')
    .action(async (names, { force }) => {
      const client = openClient(session);
      for (const name of names) {
        await client.volumes.remove(name, { force, signal: session.signal });
        session.output.out.line(name);
      }
    });
  // What a user of Docker types first.
  command
    .command('create', { hidden: true })
    .argument('[name]')
    .allowUnknownOption()
    .action((name = 'data') => {
      throw usage(
        'a volume begins with the service that uses it',
        `name it in a compose.yaml, and skiff up: volumes: ["${name}:/where"] of the service, and ${name}: under volumes`,
      );
    });
  command
    .command('prune')
    .summary('remove the volumes that no service uses')
    .option('--dry-run', 'only show which')
    .action(async ({ dryRun }) => {
      const client = openClient(session);
      for (const { name, service, removedMs } of await client.volumes.list({ signal: session.signal })) {
        if (service !== undefined || removedMs !== undefined) continue;
        if (!dryRun) await client.volumes.remove(name, { signal: session.signal });
        session.output.out.line(name);
      }
    });
}

function createColumns(nowMs: number): Column<VolumeState>[] {
  return [
    { title: 'NAME', value: (row) => row.name, isFlexible: true },
    { title: 'SERVICE', value: (row) => row.service ?? '-' },
    { title: 'SIZE', align: 'right', value: formatSize },
    { title: 'NODE', isSpare: true, value: (row) => row.node },
    { title: 'CREATED', isSpare: true, value: (row) => formatAgo(row.createdMs, nowMs) },
    { title: 'STATE', isSpare: true, value: stateOf },
  ];
}

function formatSize({ bytes, bytesMax }: VolumeState): string {
  return bytes === undefined || bytesMax === undefined
    ? '?'
    : `${formatBytes(bytes)} of ${formatBytes(bytesMax)}`;
}

function stateOf({ removedMs, service }: VolumeState): string {
  if (removedMs !== undefined) return 'removing';
  return service === undefined ? 'unused' : 'in use';
}
