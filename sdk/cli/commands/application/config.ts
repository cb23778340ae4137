/** `skiff config`: reads compose files as `skiff up` does, and prints what they come to. Asks no server. */
import { type Command, Option } from '@commander-js/extra-typings';
import { stringify } from 'yaml';
import { createFunctionWish } from '../../../compose/function-wish.ts';
import type { Project } from '../../../compose/model.ts';
import { judge } from '../../../compose/support.ts';
import { addProjectOptions, printNotes, readProject } from '../../application/options.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff config                  the files merged, with variables put in, as YAML
  $ skiff config --quiet          only check; exit code 0 when all is well
  $ skiff config --services       names of the services
  $ skiff config --functions      what becomes of each function
  $ skiff config --unsupported    keys that are not obeyed, and why
`;

export function define(command: Command, session: Session): void {
  addProjectOptions(command)
    .option('-q, --quiet', 'print nothing')
    .option('--services', 'print the names of the services')
    .option('--functions', 'print what a deploy of each function would send')
    .option('--unsupported', 'print the keys that are not obeyed')
    .option('--no-interpolate', 'leave variables as they are')
    .addOption(
      new Option('--format <format>', 'of the output')
        .choices(['yaml', 'json'] as const)
        .default('yaml' as const),
    )
    .addHelpText('after', EXAMPLES)
    .action((options) => {
      const project = readProject(session, options, [], options.interpolate);
      printNotes(session, project);
      const wishes = project.services.map((service) => createFunctionWish(project, service));
      const { out } = session.output;
      const print = (value: unknown): void =>
        out.line(options.format === 'json' ? JSON.stringify(value, null, 2) : stringify(value).trimEnd());
      if (options.quiet) return;
      if (options.services) for (const { name } of project.services) out.line(name);
      else if (options.unsupported) print(judge(project));
      else if (options.functions)
        print(Object.fromEntries(wishes.map(({ service, ...wish }) => [service, wish])));
      else print(toFile(project));
    });
}

/** As a compose file again. */
function toFile(project: Project): Record<string, unknown> {
  const { name, networks, volumes, secrets, configs } = project;
  const rest = Object.entries({ networks, volumes, secrets, configs });
  return {
    name,
    services: Object.fromEntries(project.services.map((service) => [service.name, service.raw])),
    ...Object.fromEntries(rest.filter(([, entries]) => Object.keys(entries).length > 0)),
  };
}
