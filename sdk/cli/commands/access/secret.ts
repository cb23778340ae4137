/** `skiff secret`. Values come from a pipe, a prompt or a file, never from an argument: `ps` and histories show those. */
import type { Command } from '@commander-js/extra-typings';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseEnv } from 'node:util';
import type { SecretRecord } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { CliFailure, usage } from '../../failure.ts';
import { inNamespace } from '../../options/namespace.ts';
import { readSecret } from '../../options/secret.ts';
import { formatAgo } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff secret set db-password                     asks for the value
  $ pass show db | skiff secret set db-password
  $ skiff secret import .env.production
  $ skiff deploy api --secret db-password            as DB_PASSWORD and /run/secrets/db-password
  $ skiff secret set db-password --namespace team    for the functions team.<name>
  $ skiff secret ls
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineSet(command, session);
  defineImport(command, session);
  defineList(command, session);
  defineRemove(command, session);
  defineRotate(command, session);
}

function defineSet(command: Command, session: Session): void {
  command
    .command('set')
    .aliases(['create', 'put'])
    .summary('make a secret or give it a new value')
    .argument('<name>')
    .option('-n, --namespace <namespace>', 'for the functions of this namespace')
    .option('-f, --file <path>', 'take the content of this file, as it is')
    .addHelpText('after', EXAMPLES)
    .action(async (bare, options) => {
      const name = inNamespace(bare, options.namespace);
      const value =
        options.file === undefined
          ? await readSecret(session, `value of ${name}: `)
          : readFile(session, options.file);
      if (value === '') throw usage('the value is empty', 'pipe it in, or use --file');
      const record = await openClient(session).secrets.set(name, value, { signal: session.signal });
      session.output.out.line(`${record.name} version ${record.version}`);
    });
}

function defineImport(command: Command, session: Session): void {
  command
    .command('import')
    .summary('set all secrets of a file with lines NAME=value')
    .argument('<file>')
    .option('-n, --namespace <namespace>', 'for the functions of this namespace')
    .addHelpText('after', EXAMPLES)
    .action(async (file, options) => {
      const values = parseEnv(readFile(session, file));
      const client = openClient(session);
      for (const [bare, value] of Object.entries(values)) {
        const name = inNamespace(bare, options.namespace);
        const { version } = await client.secrets.set(name, value ?? '', { signal: session.signal });
        session.output.out.line(`${name} version ${version}`);
      }
    });
}

function defineList(command: Command, session: Session): void {
  command
    .command('ls')
    .alias('list')
    .summary('list secrets, without their values')
    .option('--json', 'print the records')
    .action(async (options) => {
      const secrets = await openClient(session).secrets.list({ signal: session.signal });
      if (options.json) return session.output.json(secrets);
      printTable(session.output.out, createColumns(Date.now()), secrets);
    });
}

function createColumns(nowMs: number): Column<SecretRecord>[] {
  return [
    { title: 'NAME', value: (row) => row.name, isFlexible: true },
    { title: 'VERSION', value: (row) => String(row.version) },
    { title: 'CREATED', value: (row) => formatAgo(row.createdMs, nowMs) },
    { title: 'CHANGED', value: (row) => formatAgo(row.updatedMs, nowMs) },
  ];
}

function defineRemove(command: Command, session: Session): void {
  command
    .command('rm')
    .aliases(['remove', 'delete', 'unset'])
    .summary('remove secrets')
    .argument('<names...>')
    .action(async (names) => {
      const client = openClient(session);
      for (const name of names) {
        await client.secrets.remove(name, { signal: session.signal });
        session.output.out.line(name);
      }
    });
}

function defineRotate(command: Command, session: Session): void {
  command
    .command('rotate-key')
    .summary('encrypt all secrets with a new key')
    .action(async () => {
      const count = await openClient(session).secrets.rotateKey({ signal: session.signal });
      session.output.out.line(`${count} secrets are encrypted with a new key`);
    });
}

function readFile(session: Session, path: string): string {
  try {
    return readFileSync(resolve(session.cwd, path), 'utf8');
  } catch (error) {
    throw new CliFailure(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
