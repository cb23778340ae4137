/** `skiff init`: a new function from a template. A template is a folder in sdk/cli/templates, copied as it is. */
import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { CliFailure, usage } from '../../failure.ts';
import type { Session } from '../../session.ts';
import { toName } from '../../source/files.ts';

const EXAMPLES = `
Examples:
  $ skiff init hello                 a function in the folder hello
  $ skiff init api --template hono   an application of several routes
  $ skiff init jobs -t event         works on events in its own time; cron, python, image, sse
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

interface Template {
  readonly summary: string;
  /** What to do when it is deployed, with $ for its name. */
  readonly next?: string;
  /** Versions are exact, so that a function of today builds in a year. */
  readonly dependencies?: Readonly<Record<string, string>>;
  /** Of a folder that is no JavaScript package. */
  readonly isOther?: true;
}

const TEMPLATES: Readonly<Record<string, Template>> = {
  http: { summary: 'answers requests; the context has id, deadline, log and more' },
  hono: { summary: 'an application of several routes, with Hono', dependencies: { hono: '4.13.19' } },
  sse: { summary: 'streams server-sent events' },
  event: {
    summary: 'works on events in its own time, again when it fails',
    next: `skiff invoke $ --async -d '{"id":"o-1","total":3}'`,
  },
  cron: {
    summary: 'runs by the clock',
    next: `skiff cron create $ $ --cron '*/5 * * * *'`,
  },
  python: { summary: 'answers requests, in Python', isOther: true },
  image: { summary: 'any server that listens on $PORT, from a Containerfile', isOther: true },
};

function createTemplateOption() {
  return new Option('-t, --template <name>', 'what to start from')
    .choices(Object.keys(TEMPLATES))
    .default('http');
}

function listTemplates({ output: { out } }: Session): void {
  for (const [name, { summary }] of Object.entries(TEMPLATES))
    out.line(`${out.style('bold', name.padEnd(8))}  ${summary}`);
}

function writeTemplate(session: Session, folder: string, template: string): void {
  const { out, err } = session.output;
  const { dependencies, next, isOther } = TEMPLATES[template] as Template;
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
  cpSync(join(TEMPLATES_DIR, template), target, { recursive: true });
  if (isOther !== true) {
    const content = {
      name,
      private: true,
      type: 'module',
      main: 'index.ts',
      ...(dependencies && { dependencies }),
    };
    writeFileSync(join(target, 'package.json'), `${JSON.stringify(content, null, 2)}\n`);
  }
  writeFileSync(join(target, '.gitignore'), 'node_modules/\n.env\n');
  out.line(relative(session.cwd, target) || '.');
  err.line(`next: skiff deploy ${folder}`);
  if (next !== undefined) err.line(`then: ${next.replaceAll('$', name)}`);
}
