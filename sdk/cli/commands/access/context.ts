/** `skiff context`: several servers by name. */
import type { Command } from '@commander-js/extra-typings';
import { findContext, parseServerUrl, readContexts, writeContexts } from '../../connection/contexts.ts';
import { isLoopback } from '../../connection/local-server.ts';
import { chooseServer } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { printTable } from '../../output/table.ts';
import { readSecret } from '../../options/secret.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff context add prod https://skiff.example.org < token.txt
  $ skiff context use prod        from now on
  $ skiff --context prod ls       for one command
  $ skiff context use --none      the server of this host again

SKIFF_URL and --url come before the context in use.
`;

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/i;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineList(command, session);
  defineUse(command, session);
  defineAdd(command, session);
  defineRemove(command, session);
}

function defineList(command: Command, session: Session): void {
  command
    .command('ls')
    .aliases(['list', 'show'])
    .summary('list contexts')
    .option('--json', 'print { current, contexts }, without tokens')
    .action((options) => {
      const { current, contexts } = readContexts(session.env);
      const rows = Object.entries(contexts).map(([name, { url, token }]) => ({
        name,
        url,
        hasToken: token !== undefined,
      }));
      if (options.json) return session.output.json({ current, contexts: rows });
      const { out, err } = session.output;
      if (rows.length > 0) {
        printTable(
          out,
          [
            { title: '', value: (row) => (row.name === current ? '*' : '') },
            { title: 'NAME', value: (row) => row.name },
            { title: 'URL', value: (row) => row.url },
            { title: 'TOKEN', value: (row) => (row.hasToken ? 'yes' : 'no') },
          ],
          rows,
        );
      }
      const chosen = chooseServer(session);
      err.line(`commands go to ${chosen.url} (${chosen.origin})`);
    });
}

function defineUse(command: Command, session: Session): void {
  command
    .command('use')
    .summary('choose the context of the next commands')
    .argument('[name]')
    .option('--none', 'use none')
    .action((name, options) => {
      const value = readContexts(session.env);
      if (name === undefined && !options.none) throw usage('which context?', 'list them: skiff context ls');
      if (name !== undefined) findContext(value, name);
      const { contexts } = value;
      writeContexts(session.env, name === undefined ? { contexts } : { current: name, contexts });
      session.output.err.line(name === undefined ? 'no context in use' : `now using "${name}"`);
    });
}

function defineAdd(command: Command, session: Session): void {
  command
    .command('add')
    .alias('create')
    .summary('add or replace a context; the token is read from standard input')
    .argument('<name>')
    .argument('<url>')
    .option('--no-token', 'without a token')
    .action(async (name, url, options) => {
      await saveContext(session, name, url, options.token);
    });
}

/** Shared with `skiff login`. Returns the URL as saved. */
export async function saveContext(
  session: Session,
  name: string,
  url: string,
  wantsToken: boolean,
): Promise<string> {
  if (!NAME.test(name))
    throw usage(`"${name}" is not a name for a context`, 'use letters, digits, ".", "_" and "-"');
  const checked = parseServerUrl(url);
  if (checked.startsWith('http:') && !isLoopback(checked)) {
    session.output.err.line(
      `${session.output.err.style('yellow', 'warning:')} ${checked} is not encrypted: the token can be read on the way`,
    );
  }
  const token = session.globals.token ?? (wantsToken ? await readSecret(session, 'token: ') : undefined);
  const value = readContexts(session.env);
  const context = token === undefined || token === '' ? { url: checked } : { url: checked, token };
  const contexts = { ...value.contexts, [name]: context };
  writeContexts(session.env, { current: value.current ?? name, contexts });
  session.output.err.line(`context "${name}" is saved${value.current === undefined ? ' and in use' : ''}`);
  return checked;
}

function defineRemove(command: Command, session: Session): void {
  command
    .command('rm')
    .aliases(['remove', 'delete'])
    .summary('remove a context')
    .argument('<name>')
    .action((name) => {
      const value = readContexts(session.env);
      findContext(value, name);
      const contexts = Object.fromEntries(Object.entries(value.contexts).filter(([other]) => other !== name));
      const isCurrent = value.current === name;
      writeContexts(
        session.env,
        isCurrent || value.current === undefined ? { contexts } : { current: value.current, contexts },
      );
      session.output.out.line(name);
    });
}
