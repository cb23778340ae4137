/**
 * What may come next on a command line. The shells' scripts (commands/tool/completion.ts) send the words so far,
 * the last one being typed, and get one candidate a line: value, tab, description.
 * Own code, as the library for it evaluates what was typed and needs bash-completion to be installed.
 */
import type { Argument, Command, Option } from 'commander';
import { readContexts } from './connection/contexts.ts';
import type { Session } from './session.ts';

export interface Candidate {
  readonly value: string;
  readonly description: string;
}

/** `skiff complete -- <words…>`: called by the scripts, not by people. */
export async function printCandidates(
  program: Command,
  args: readonly string[],
  session: Session,
): Promise<void> {
  const words = args[0] === '--' ? args.slice(1) : args;
  for (const { value, description } of await suggest(program, words, session)) {
    session.output.out.line(`${value}\t${description}`);
  }
}

/** Asked for names on the server: a slow or absent server must not make the shell wait. */
const NAMES_MS_MAX = 800;

export async function suggest(
  program: Command,
  words: readonly string[],
  session: Session,
): Promise<Candidate[]> {
  const typed = words.at(-1) ?? '';
  const { command, positionals, pending } = walk(program, words.slice(0, -1));
  const candidates = await list(program, command, typed, positionals, pending, session);
  return candidates
    .filter(({ value }) => value.startsWith(typed))
    .toSorted((a, b) => (a.value < b.value ? -1 : 1));
}

interface Position {
  readonly command: Command;
  /** How many arguments of the command stand already. */
  readonly positionals: number;
  /** The option whose value is being typed. */
  readonly pending: Option | undefined;
}

function walk(program: Command, words: readonly string[]): Position {
  let command = program;
  let positionals = 0;
  let pending: Option | undefined;
  for (const word of words) {
    if (pending !== undefined) {
      pending = undefined;
    } else if (word.startsWith('-')) {
      const option = [...command.options, ...program.options].find(
        (known) => known.short === word || known.long === word,
      );
      pending = option?.required ? option : undefined;
    } else {
      const next = command.commands.find((child) => child.name() === word || child.aliases().includes(word));
      if (next === undefined) positionals++;
      else command = next;
    }
  }
  return { command, positionals, pending };
}

function list(
  program: Command,
  command: Command,
  typed: string,
  positionals: number,
  pending: Option | undefined,
  session: Session,
): Candidate[] | Promise<Candidate[]> {
  if (pending?.long === '--context') return listContexts(session);
  if (pending !== undefined) return (pending.argChoices ?? []).map((value) => ({ value, description: '' }));
  if (typed.startsWith('-')) return listOptions(command === program ? [program] : [command, program]);
  if (command.commands.length > 0) {
    return command.commands.map((child) => ({ value: child.name(), description: child.summary() }));
  }
  const last = command.registeredArguments.at(-1);
  const argument = command.registeredArguments[positionals] ?? (last?.variadic ? last : undefined);
  return argument === undefined ? [] : listArguments(command, argument, session);
}

function listOptions(commands: readonly Command[]): Candidate[] {
  return commands.flatMap((command) =>
    command
      .createHelp()
      .visibleOptions(command)
      .map((option) => ({ value: option.long ?? option.short ?? '', description: option.description })),
  );
}

function listArguments(
  command: Command,
  argument: Argument,
  session: Session,
): Candidate[] | Promise<Candidate[]> {
  if (argument.argChoices !== undefined)
    return argument.argChoices.map((value) => ({ value, description: '' }));
  if (argument.name() === 'function' || argument.name() === 'functions') return listFunctions(session);
  if (argument.name() === 'name' && command.parent?.name() === 'context') return listContexts(session);
  return [];
}

function listContexts(session: Session): Candidate[] {
  return Object.entries(readContexts(session.env).contexts).map(([value, { url }]) => ({
    value,
    description: url,
  }));
}

async function listFunctions(session: Session): Promise<Candidate[]> {
  const { openClient } = await import('./connection/server.ts');
  try {
    const functions = await openClient(session).list({ signal: AbortSignal.timeout(NAMES_MS_MAX) });
    return functions.map(({ name, url }) => ({ value: name, description: url }));
  } catch {
    // No server, no names; the shell shows nothing, and an error text would spoil the line being typed.
    return [];
  }
}
