/** `skiff types`: the types of a client, from functions in a folder or from those of the server. */
import { readFile, writeFile } from 'node:fs/promises';
import { extname, join, relative, resolve } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { findFunctions } from '../../../dev/source/project.ts';
import { openClient } from '../../connection/server.ts';
import { CliFailure, ExitCode, usage } from '../../failure.ts';
import type { Session } from '../../session.ts';
import { toName } from '../../source/files.ts';
import { describeClient, type TypedFunction } from '../../source/typed-client.ts';

const EXAMPLES = `
Examples:
  $ skiff types functions -o skiff.d.ts        what the functions of a folder take and answer
  $ skiff types --deployed -o skiff.d.ts       names of those on the server; their types only where the source says
  $ skiff types functions -o skiff.d.ts --check    in CI: fails when the file is not what would be written

Then, with "createClient" of the package "skiff/client" and the type "Skiff" of the file:
  const skiff: Skiff = createClient({ url, token });
  const { text } = await skiff.invoke('greet', { name: 'Ada' });
`;

interface TypesOptions {
  readonly deployed?: true | undefined;
  readonly out?: string | undefined;
  readonly check?: true | undefined;
}

export function define(command: Command, session: Session): void {
  command
    .argument('[path]', 'a function, or a folder of functions; default: this folder')
    .option('--deployed', 'functions of the server; with a path, typed by it')
    .option('-o, --out <file>', 'write this file; imports are relative to it (default: print)')
    .option('--check', 'write nothing, and fail when the file is not up to date')
    .addHelpText('after', EXAMPLES)
    .action((path, options) => writeTypes(session, path, options));
}

async function writeTypes(session: Session, path: string | undefined, options: TypesOptions): Promise<void> {
  const { out, err } = session.output;
  if (options.check && options.out === undefined)
    throw usage('--check compares a file; which?', 'skiff types functions -o skiff.d.ts --check');
  const target = resolve(session.cwd, options.out ?? 'skiff.d.ts');
  const sources = options.deployed && path === undefined ? [] : await readSources(session, path ?? '.');
  const functions = options.deployed ? await matchDeployed(session, sources) : sources;
  const command = [
    'skiff types',
    ...(path === undefined ? [] : [path]),
    ...(options.deployed ? ['--deployed'] : []),
  ];
  const text = describeClient(functions, target, command.join(' '));
  if (options.out === undefined) return out.write(text);
  const shown = relative(session.cwd, target);
  const written = await readFile(target, 'utf8').catch(() => undefined);
  if (options.check && written !== text) {
    const state = written === undefined ? 'does not exist' : 'is not what the functions say now';
    throw new CliFailure(`${shown} ${state}`, { hint: `${command.join(' ')} -o ${options.out}` });
  }
  if (!options.check) await writeFile(target, text);
  const untyped = functions.filter(({ module }) => module === undefined).map(({ name }) => name);
  err.line(`${shown}: ${functions.map(({ name }) => name).join(', ')}`);
  if (untyped.length > 0)
    err.line(`without types: ${untyped.join(', ')} (no TypeScript module with a default export)`);
  session.exitCode = ExitCode.ok;
}

async function readSources(session: Session, path: string): Promise<TypedFunction[]> {
  const found = await findFunctions(resolve(session.cwd, path), toName);
  return Promise.all(
    found.map(async ({ name, root, entry }) => {
      const module = join(root, entry);
      const isTyped =
        /^\.[cm]?tsx?$/.test(extname(entry)) && hasDefaultExport(await readFile(module, 'utf8'));
      return isTyped ? { name, module } : { name };
    }),
  );
}

/** `export default …` and `export { x as default }`. */
function hasDefaultExport(text: string): boolean {
  return /^\s*export\s+(?:default\b|\{[^}]*\bdefault\b[^}]*\})/m.test(text);
}

/** Those of the server, with the types of the sources of the same names. */
async function matchDeployed(session: Session, sources: readonly TypedFunction[]): Promise<TypedFunction[]> {
  const deployed = await openClient(session).list({ signal: session.signal });
  return deployed.map(({ name }) => sources.find((source) => source.name === name) ?? { name });
}
