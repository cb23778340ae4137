/** `skiff init`: a new function from a template. A template is a module in sdk/cli/templates, copied as it is. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { CliFailure, usage } from '../../failure.ts';
import type { Session } from '../../session.ts';
import { toName } from '../../source/files.ts';

const EXAMPLES = `
Examples:
  $ skiff init hello                 a function in the folder hello
  $ skiff init api --template hono   an application of several routes
  $ skiff init --list                all templates

Then: skiff deploy hello
`;

const TEMPLATES_DIR = join(import.meta.dirname, '..', '..', 'templates');

export function define(command: Command, session: Session): void {
  command
    .argument('[folder]', 'folder to make, which also names the function')
    .addOption(createTemplateOption())
    .option('--list', 'list the templates')
    .addHelpText('after', EXAMPLES)
    .action((folder, options) => {
      if (options.list) return listTemplates(session);
      if (folder === undefined) throw usage('which folder?', 'skiff init hello');
      writeTemplate(session, folder, options.template);
    });
}

function createTemplateOption() {
  return new Option('-t, --template <name>', 'what to start from').choices(listNames()).default('http');
}

function listNames(): string[] {
  return readdirSync(TEMPLATES_DIR)
    .map((file) => basename(file, '.ts'))
    .toSorted();
}

function listTemplates({ output: { out } }: Session): void {
  for (const name of listNames()) out.line(`${out.style('bold', name.padEnd(8))}  ${readSummary(name)}`);
}

/** The comment a template begins with says what it is. */
function readSummary(name: string): string {
  const [first = ''] = readFileSync(join(TEMPLATES_DIR, `${name}.ts`), 'utf8').split('\n');
  return first.replace(/^\/\*\*\s*/, '').replace(/\s*\*\/$/, '');
}

function writeTemplate(session: Session, folder: string, template: string): void {
  const { out, err } = session.output;
  const target = resolve(session.cwd, folder);
  const name = toName(basename(target));
  if (name === '')
    throw usage(`no function name can be made of "${folder}"`, 'begin it with a letter: skiff init hello');
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new CliFailure(`${folder} exists and is not empty; nothing was written`, {
      hint: 'choose another folder',
    });
  }
  mkdirSync(target, { recursive: true });
  copyFileSync(join(TEMPLATES_DIR, `${template}.ts`), join(target, 'index.ts'));
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(createPackage(name, template), null, 2)}\n`);
  writeFileSync(join(target, '.gitignore'), 'node_modules/\n.env\n');
  out.line(relative(session.cwd, target) || '.');
  err.line(`next: skiff deploy ${folder}`);
}

/** What a template needs beside its code. Versions are exact, so that a function of today builds in a year. */
const DEPENDENCIES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  hono: { hono: '4.13.19' },
};

function createPackage(name: string, template: string) {
  const dependencies = DEPENDENCIES[template];
  return { name, private: true, type: 'module', main: 'index.ts', ...(dependencies && { dependencies }) };
}
