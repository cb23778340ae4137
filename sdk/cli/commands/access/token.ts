/** `skiff token`. */
import { type Command, Option } from '@commander-js/extra-typings';
import type { TokenRecord } from '../../../client/index.ts';
import type { Scope } from '../../../protocol/api.ts';
import { tryParseMs } from '../../../protocol/units.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { formatAgo } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff token create ci --scope deploy --expires 90d
  $ skiff token create frontend --scope invoke --function api > token.txt
  $ skiff token create team-ci --scope deploy invoke --namespace team
  $ skiff token ls
  $ skiff token rm tok-01k…

Scopes: admin (everything), deploy (deploy, remove, read), invoke (call private functions), read (look).
With a namespace: for functions, secrets and schedules called team.<name>, and for nothing else.
`;

const SCOPES = ['admin', 'deploy', 'invoke', 'read'] as const satisfies readonly Scope[];

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineCreate(command, session);
  defineList(command, session);
  defineRemove(command, session);
}

function defineCreate(command: Command, session: Session): void {
  command
    .command('create')
    .aliases(['add', 'new'])
    .summary('create a token; it is shown this once')
    .argument('<name>', 'who or what will use it')
    .addOption(createScopeOption())
    .option('-f, --function <names...>', 'good for these functions alone (to invoke and read)')
    .option('-n, --namespace <name>', 'good for what is of this namespace alone')
    .option('--expires <duration>', 'after which it is void, such as 90d (default: never)')
    .option('--json', 'print { token, record }')
    .addHelpText('after', EXAMPLES)
    .action(async (name, options) => {
      const lifeMs = options.expires === undefined ? undefined : tryParseMs(options.expires);
      if (options.expires !== undefined && lifeMs === undefined) {
        throw usage(`"${options.expires}" is not a duration`, 'write 12h, 30d, 90d');
      }
      const created = await openClient(session).tokens.create(
        {
          name,
          scopes: options.scope,
          functions: options.function,
          namespace: options.namespace,
          expiresMs: lifeMs === undefined ? undefined : Date.now() + lifeMs,
        },
        { signal: session.signal },
      );
      if (options.json) return session.output.json(created);
      session.output.out.line(created.token);
      session.output.err.line(
        `${created.record.id} may ${created.record.scopes.join(', ')}; keep it now, it is not shown again`,
      );
    });
}

function createScopeOption() {
  const read: readonly Scope[] = ['read'];
  return new Option('-s, --scope <scopes...>', 'what it may do').choices(SCOPES).default(read as Scope[]);
}

function defineList(command: Command, session: Session): void {
  command
    .command('ls')
    .alias('list')
    .summary('list tokens')
    .option('--json', 'print the records')
    .action(async (options) => {
      const tokens = await openClient(session).tokens.list({ signal: session.signal });
      if (options.json) return session.output.json(tokens);
      printTable(session.output.out, createColumns(Date.now()), tokens);
    });
}

function createColumns(nowMs: number): Column<TokenRecord>[] {
  const formatEnd = (endMs: number): string =>
    endMs < nowMs ? 'expired' : new Date(endMs).toISOString().slice(0, 10);
  return [
    { title: 'ID', value: (row) => row.id },
    { title: 'NAME', value: (row) => row.name, isFlexible: true },
    { title: 'SCOPES', value: (row) => row.scopes.join(', ') },
    {
      title: 'GOOD FOR',
      isSpare: true,
      value: (row) => row.functions?.join(', ') ?? (row.namespace ? `${row.namespace}.*` : 'all'),
    },
    { title: 'CREATED', isSpare: true, value: (row) => formatAgo(row.createdMs, nowMs) },
    {
      title: 'EXPIRES',
      isSpare: true,
      value: (row) => (row.expiresMs === undefined ? 'never' : formatEnd(row.expiresMs)),
    },
  ];
}

function defineRemove(command: Command, session: Session): void {
  command
    .command('rm')
    .aliases(['revoke', 'remove', 'delete'])
    .summary('revoke tokens, by id')
    .argument('<ids...>')
    .action(async (ids) => {
      const client = openClient(session);
      for (const id of ids) {
        await client.tokens.remove(id, { signal: session.signal });
        session.output.out.line(id);
      }
    });
}
