/**
 * `skiff login`: a server and its token, checked before they are saved. With a user it is `skiff registry login`, for
 * hands that are used to `docker login`.
 */
import type { Command } from '@commander-js/extra-typings';
import { ClientError, createClient } from '../../../client/index.ts';
import { parseServerUrl } from '../../connection/contexts.ts';
import { httpFetch } from '../../connection/http-fetch.ts';
import { chooseServer } from '../../connection/server.ts';
import { CliFailure, usage } from '../../failure.ts';
import { readSecret } from '../../options/secret.ts';
import type { Session } from '../../session.ts';
import { saveContext } from './context.ts';
import { loginToRegistry } from './registry.ts';

const EXAMPLES = `
Examples:
  $ skiff login https://skiff.example.org                asks for the token
  $ skiff login https://skiff.example.org < token.txt    reads it
  $ skiff login https://skiff.example.org --name prod    as context "prod"
  $ skiff login host:5000 -u ci --password-stdin         a registry of images: see skiff registry

A token is made by an admin: skiff token create <name> --scope deploy
`;

export function define(command: Command, session: Session): void {
  command
    .argument('[url]', 'server (default: the one in use)')
    .option('-n, --name <name>', 'name of the context (default: the host of the URL)')
    .option('-u, --username <name>', 'log the server in to a registry of images, as this user')
    .option('--password-stdin', 'with --username: read the password from standard input')
    .addHelpText('after', EXAMPLES)
    .action(async (url, options) => {
      if (options.username !== undefined) {
        if (url === undefined) throw usage('which registry?', 'skiff login host:5000 -u name');
        return loginToRegistry(session, url, options.username, options.passwordStdin === true);
      }
      const server = url === undefined ? chooseServer(session).url : parseServerUrl(url);
      const token = session.globals.token ?? (await readSecret(session, `token for ${server}: `));
      if (token === '')
        throw new CliFailure('no token was given', { hint: 'pipe it in, or type it when asked' });
      await check(server, token, session);
      session.globals = { ...session.globals, token };
      await saveContext(
        session,
        options.name ?? new URL(server).hostname.replaceAll(/[[\]:]/g, '_'),
        server,
        false,
      );
    });
}

async function check(url: string, token: string, session: Session): Promise<void> {
  const client = createClient({ url, token, fetch: httpFetch });
  try {
    await client.list({ signal: session.signal });
  } catch (error) {
    // A token that may only invoke is a good one, too.
    const isNarrow = error instanceof ClientError && error.code === 'FORBIDDEN';
    if (error instanceof ClientError && error.code === 'UNAUTHENTICATED') {
      throw new CliFailure(`${url} does not know this token; nothing was saved`, { cause: error });
    }
    if (!isNarrow) throw error;
  }
}
