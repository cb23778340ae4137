/**
 * `skiff registry`: the server's logins to registries of images, as `docker login` keeps those of a host. Passwords come
 * from a pipe or a prompt, never from an argument.
 */
import type { Command } from '@commander-js/extra-typings';
import type { RegistryLogin } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { readSecret } from '../../options/secret.ts';
import { formatAgo } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff registry login host:5000 -u ci                                   asks for the password
  $ pass show registry | skiff registry login host:5000 -u ci --password-stdin
  $ skiff deploy --image host:5000/shop:1.4
  $ skiff registry ls
  $ skiff registry logout host:5000

The login is kept by the server, encrypted, and used by its builds alone.
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  command
    .command('login')
    .summary('log the server in to a registry')
    .argument('<host>', 'of the registry, as in image names: host:5000')
    .requiredOption('-u, --username <name>', 'user')
    .option('--password-stdin', 'read the password from standard input')
    .addHelpText('after', EXAMPLES)
    .action((host, options) =>
      loginToRegistry(session, host, options.username, options.passwordStdin === true),
    );
  command
    .command('logout')
    .summary('forget the login to a registry')
    .argument('<host>')
    .action((host) => logoutOfRegistry(session, host));
  command
    .command('ls')
    .alias('list')
    .summary('list the registries the server is logged in to')
    .option('--json', 'print the records')
    .action(async (options) => {
      const logins = await openClient(session).registries.list({ signal: session.signal });
      if (options.json) return session.output.json(logins);
      printTable(session.output.out, createColumns(Date.now()), logins);
    });
}

export async function loginToRegistry(
  session: Session,
  host: string,
  user: string,
  isPiped: boolean,
): Promise<void> {
  if (isPiped && session.stdin.isTTY)
    throw usage('--password-stdin, but nothing is piped in', 'pipe the password, or leave the option out');
  const password = await readSecret(session, `password of ${user} at ${host}: `);
  if (password === '') throw usage('no password was given', 'pipe it in, or type it when asked');
  const login = await openClient(session).registries.login(toHost(host), user, password, {
    signal: session.signal,
  });
  session.output.out.line(`the server is logged in to ${login.host} as ${login.user}`);
}

export async function logoutOfRegistry(session: Session, host: string): Promise<void> {
  await openClient(session).registries.logout(toHost(host), { signal: session.signal });
  session.output.out.line(toHost(host));
}

/** People paste URLs. */
function toHost(text: string): string {
  return text.replace(/^https?:\/\//, '').replace(/\/$/, '');
}

function createColumns(nowMs: number): Column<RegistryLogin>[] {
  return [
    { title: 'REGISTRY', value: (row) => row.host, isFlexible: true },
    { title: 'USER', value: (row) => row.user },
    { title: 'CHANGED', value: (row) => formatAgo(row.updatedMs, nowMs) },
  ];
}
