/** `skiff env`: variables of a function that runs. A change is a new deployment of the same code: nothing is built. */
import type { Command } from '@commander-js/extra-typings';
import type { Deployment } from '../../../client/index.ts';
import { type CliClient, openClient } from '../../connection/server.ts';
import { CliFailure } from '../../failure.ts';
import { makeSafe } from '../../output/function-text.ts';
import { formatMs } from '../../output/quantities.ts';
import { printTable } from '../../output/table.ts';
import { readEnvOptions } from '../../options/env.ts';
import { collect } from '../../options/parse.ts';
import { followDeploy } from '../../deploy/follow.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff env ls hello
  $ skiff env set hello STAGE=test LEVEL=debug     one new deployment; API_KEY alone takes yours
  $ skiff env set hello --env-file prod.env
  $ skiff env unset hello LEVEL
  $ skiff rollback hello                           as it was before

Values that nobody may see are secrets: skiff secret set. The next skiff deploy says anew what the variables are,
unless it is told --keep-env.
`;

export function define(command: Command, session: Session): void {
  command.usage('<command>').addHelpText('after', EXAMPLES);

  command
    .command('ls')
    .alias('list')
    .summary('list variables with their values')
    .description('List the variables of the live deployment with their values.')
    .argument('<function>', 'name of the function')
    .option('--json', 'print an object')
    .action(async (name, options) => {
      const { env } = (await getLive(openClient(session), name, session)).config;
      if (options.json) return session.output.json(env);
      const rows = Object.entries(env).toSorted(([a], [b]) => (a < b ? -1 : 1));
      if (rows.length === 0)
        return session.output.err.line(
          `"${name}" has no variables; set one: skiff env set ${name} NAME=value`,
        );
      printTable(
        session.output.out,
        [
          { title: 'NAME', value: ([key]) => key },
          { title: 'VALUE', value: ([, value]) => makeSafe(value).replaceAll('\n', '\\n'), isFlexible: true },
        ],
        rows,
      );
    });

  command
    .command('set')
    .alias('add')
    .summary('set variables')
    .description('Set variables, and keep the others.')
    .argument('<function>', 'name of the function')
    .argument('[variable...]', 'NAME=value; NAME alone takes the value from your environment')
    .option('--env-file <file>', 'file with lines NAME=value', collect)
    .option('--json', 'print { name, url, deployment, image, ms }')
    .action(async (name, variables, options) => {
      const given = readEnvOptions(session, variables, options.envFile ?? []);
      if (given === undefined) throw new CliFailure('which variables?', { exitCode: 2, hint: EXAMPLE(name) });
      await change(session, name, options.json === true, (env) => ({ ...env, ...given }));
    });

  command
    .command('unset')
    .aliases(['rm', 'remove', 'delete'])
    .summary('take variables away')
    .description('Take variables away.')
    .argument('<function>', 'name of the function')
    .argument('<variable...>', 'their names')
    .option('--json', 'print { name, url, deployment, image, ms }')
    .action(async (name, variables, options) => {
      await change(session, name, options.json === true, (env) => {
        const absent = variables.find((variable) => !Object.hasOwn(env, variable));
        if (absent !== undefined)
          throw new CliFailure(`"${name}" has no variable ${absent}`, { hint: `see: skiff env ls ${name}` });
        return Object.fromEntries(Object.entries(env).filter(([key]) => !variables.includes(key)));
      });
    });
}

const EXAMPLE = (name: string): string => `skiff env set ${name} NAME=value`;

async function change(
  session: Session,
  name: string,
  isJson: boolean,
  edit: (env: Readonly<Record<string, string>>) => Record<string, string>,
): Promise<void> {
  const client = openClient(session);
  const live = await getLive(client, name, session);
  const { err } = session.output;
  const env = edit(live.config.env);
  if (isEqual(env, live.config.env))
    return err.line(`nothing to change: "${name}" has these variables already`);
  const options = { from: live.id, config: { env }, signal: session.signal };
  const result = await followDeploy(session, client, name, options, { isQuiet: isJson });
  if (isJson) return session.output.json(result);
  err.line(`${err.style('bold', name)} is live with them in ${formatMs(result.ms['total'] ?? 0)}`);
  session.output.out.line(result.deployment);
}

function isEqual(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

/** The one with most traffic, if there are two. */
export async function getLive(client: CliClient, name: string, session: Session): Promise<Deployment> {
  const { live } = await client.get(name, { signal: session.signal });
  const [heaviest] = live?.targets.toSorted((a, b) => b.weight - a.weight) ?? [];
  if (!heaviest)
    throw new CliFailure(`"${name}" has no live deployment`, { hint: `deploy it: skiff deploy` });
  return client.deployment(heaviest.deployment, { signal: session.signal });
}
