/** `skiff swarm`: hosts that work as one. Joining and leaving concern this host and are done by the host program. */
import type { Command } from '@commander-js/extra-typings';
import type { JoinTokenView } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { becomeHostProgram } from '../../installation.ts';
import { parseDuration } from '../../options/parse.ts';
import { formatFields } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff swarm init                                  on the first host, where \`skiff server\` runs
  $ skiff swarm join --token SKFTKN-1-… 10.0.0.1:7377   on every other host
  $ skiff swarm join-token manager                    for a host that is to be a manager too
  $ skiff swarm join-token --rotate worker            the old token lets nobody in any more
  $ skiff swarm leave                                 on a host that is to go
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineInit(command, session);
  defineTokens(command, session);
  defineMembership(command, session);
  command
    .command('info')
    .aliases(['inspect', 'status'])
    .summary('show the swarm of this server')
    .option('--json', 'print the record')
    .action(async (options) => {
      const swarm = await openClient(session).swarm.get({ signal: session.signal });
      if (options.json) return session.output.json(swarm);
      const fields = formatFields(session.output.out, [
        ['id', swarm.id],
        ['created', new Date(swarm.createdMs).toISOString()],
        ['CA digest', swarm.caDigest],
        ['managers', swarm.managers.join(', ')],
      ]);
      for (const line of fields) session.output.out.line(line);
    });
}

function defineInit(command: Command, session: Session): void {
  command
    .command('init')
    .summary('make this server the first manager of a swarm')
    .option('--advertise-addr <address>', 'address of this host for the others (default: its only one)')
    .option('--cert-expiry <duration>', 'life of node certificates (default: 90d)', parseDuration)
    .option('--json', 'print the join token')
    .action(async (options) => {
      const client = openClient(session);
      await client.swarm.init(
        {
          ...(options.advertiseAddr === undefined ? {} : { advertiseAddr: options.advertiseAddr }),
          ...(options.certExpiry === undefined ? {} : { certificateMs: options.certExpiry }),
        },
        { signal: session.signal },
      );
      const token = await client.swarm.joinToken('worker', { signal: session.signal });
      if (options.json) return session.output.json(token);
      session.output.err.line('this server is the first manager of a swarm');
      printJoin(session, token);
    });
}

function defineTokens(command: Command, session: Session): void {
  command
    .command('join-token')
    .summary('show how a host joins')
    .argument('<role>', 'worker or manager')
    .option('-q, --quiet', 'print the token alone')
    .option('--rotate', 'make a new token; the old one lets nobody in any more')
    .option('--json', 'print the record')
    .action(async (role, options) => {
      if (role !== 'worker' && role !== 'manager')
        throw usage(`there is no role "${role}"`, 'there are worker and manager');
      const { swarm } = openClient(session);
      const token = options.rotate
        ? await swarm.rotateJoinToken(role, { signal: session.signal })
        : await swarm.joinToken(role, { signal: session.signal });
      if (options.json) return session.output.json(token);
      if (options.quiet) return session.output.out.line(token.token);
      printJoin(session, token);
    });
}

function printJoin({ output: { out, err } }: Session, { role, token, managers }: JoinTokenView): void {
  err.line(`to add a ${role}, run on the other host:`);
  out.line(`  skiff swarm join --token ${token} ${managers[0] ?? '<host:port>'}`);
}

function defineMembership(command: Command, session: Session): void {
  command
    .command('join')
    .summary('make this host a node, and run its part')
    .argument('<manager>', 'host:port of any manager')
    .option('--token <token>', 'join token (default: SKIFF_JOIN_TOKEN)')
    .option(
      '--advertise-addr <address>',
      'address of this host for the others (default: as the manager sees it)',
    )
    .option('--no-start', 'join only; `skiff server` starts it later')
    .action((manager, options) =>
      becomeHostProgram(session, [
        'join',
        // It is an option of every command, so it may have been taken as that.
        ...flag('--token', options.token ?? session.globals.token),
        ...flag('--advertise-addr', options.advertiseAddr),
        ...(options.start ? [] : ['--no-start']),
        manager,
      ]),
    );
  command
    .command('leave')
    .summary('stop the server of this host and take it out of its swarm')
    .option('-f, --force', 'also without a manager to tell; on the first or last manager: end the swarm')
    .action((options) => becomeHostProgram(session, ['leave', ...(options.force ? ['--force'] : [])]));
}

function flag(name: string, value: string | undefined): string[] {
  return value === undefined ? [] : [name, value];
}
