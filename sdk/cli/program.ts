/**
 * The command line: options every command has, help, and the one command that is asked for.
 * Invariant: `skiff` without a command, an unknown command and `--help` load no command's file.
 */
import type { Command as TypedCommand } from '@commander-js/extra-typings';
import { Command } from 'commander';
import type { Channel } from './output/channel.ts';
import { COMMANDS, type CommandEntry, findCommand } from './registry.ts';
import type { GlobalOptions, Session } from './session.ts';

const VALUE_OPTIONS: ReadonlySet<string> = new Set(['-g', '--url', '--token', '--context']);

const EXAMPLES = `
Examples:
  $ skiff init hello && skiff deploy hello     from nothing to a URL
  $ skiff invoke hello -d '{"name":"Ada"}'     call it
  $ skiff logs hello -f                        watch it
  $ skiff rollback hello                       take the last deploy back

Every command has examples: skiff <command> --help
`;

/** The first word that is neither an option nor an option's value; after `help`, the word that it is about. */
export function findVerb(args: readonly string[]): string | undefined {
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    if (arg === '--') return undefined;
    if (VALUE_OPTIONS.has(arg)) i++;
    else if (arg !== 'help' && !arg.startsWith('-')) return arg;
  }
  return undefined;
}

export async function createProgram(session: Session, args: readonly string[]): Promise<Command> {
  const program = createRoot(session);
  const verb = findVerb(args);
  const asked = verb === undefined ? undefined : findCommand(verb);
  for (const entry of COMMANDS) {
    const command = createStub(program, entry);
    if (entry === asked) await complete(command, entry, session);
  }
  return program;
}

/** Everything loaded: for shell completion and for tests of the help texts. */
export async function createFullProgram(session: Session): Promise<Command> {
  const program = createRoot(session);
  for (const entry of COMMANDS) await complete(createStub(program, entry), entry, session);
  return program;
}

async function complete(command: Command, entry: CommandEntry, session: Session): Promise<void> {
  const { define } = await entry.load();
  define(command as TypedCommand, session);
}

function createRoot(session: Session): Command {
  const { out, err } = session.output;
  const program = new Command('skiff')
    .description('Serverless functions on your own hosts.')
    .usage('<command> [options]')
    .option('-g, --url <url>', 'server to talk to (default: SKIFF_URL, the context, the server of this host)')
    .option('--token <token>', 'token to show it (default: SKIFF_TOKEN, the context, the data folder)')
    .option('--context <name>', 'use the server and token of this context')
    .helpOption('-h, --help', 'show help')
    .addHelpCommand(
      new Command('help').argument('[command]').summary('show help of a command').helpGroup('This tool:'),
    )
    .addHelpText('after', EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => out.line(text.trimEnd()),
      writeErr: (text) => err.line(text.trimEnd()),
      outputError: (text, write) => write(formatUsageError(err, text)),
      getOutHelpWidth: () => out.columns,
      getErrHelpWidth: () => err.columns,
      getOutHasColors: () => true,
      getErrHasColors: () => true,
    })
    .configureHelp({
      showGlobalOptions: true,
      subcommandTerm: (command) =>
        [command.name(), ...command.registeredArguments.map(formatArgument)].join(' '),
      // Without aliases: a reader would take `ls|list` for something to type.
      commandUsage: (command) => `${commandPath(command)} ${command.usage()}`,
      styleTitle: (text) => out.style('bold', text),
      styleCommandText: (text) => out.style('cyan', text),
      styleSubcommandText: (text) => out.style('cyan', text),
      styleOptionText: (text) => out.style('green', text),
      styleArgumentText: (text) => out.style('yellow', text),
    });
  program.hook('preAction', () => {
    session.globals = program.opts<GlobalOptions>();
  });
  return program;
}

/** What commander says, and what to do next where it does not say so itself. */
function formatUsageError(err: Channel, text: string): string {
  const hint = text.includes('Did you mean')
    ? ''
    : /unknown command/.test(text)
      ? `\n${err.style('cyan', 'hint:')} skiff --help lists all commands`
      : /missing required argument|too many arguments/.test(text)
        ? `\n${err.style('cyan', 'hint:')} examples are in the help: add --help`
        : '';
  return `${err.style('red', 'error:')} ${text.replace(/^error: /, '').trimEnd()}${hint}`;
}

function commandPath(command: Command): string {
  return command.parent === null ? command.name() : `${commandPath(command.parent)} ${command.name()}`;
}

function formatArgument(argument: { name(): string; required: boolean; variadic: boolean }): string {
  const name = argument.name() + (argument.variadic ? '…' : '');
  return argument.required ? `<${name}>` : `[${name}]`;
}

function createStub(program: Command, entry: CommandEntry): Command {
  return program
    .command(entry.name)
    .summary(entry.summary)
    .description(`${entry.summary.charAt(0).toUpperCase()}${entry.summary.slice(1)}.`)
    .aliases([...(entry.aliases ?? [])])
    .helpCommand(false)
    .helpGroup(entry.group);
}
