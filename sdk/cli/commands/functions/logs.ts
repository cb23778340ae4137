/** `skiff logs`: what a function logged, and with -f what it is logging. */
import { type Command, Option } from '@commander-js/extra-typings';
import { tryFindFiles } from '../../../compose/load/file-set.ts';
import type { Project } from '../../../compose/model.ts';
import { followApplication } from '../../application/follow.ts';
import { readProject } from '../../application/options.ts';
import { membersOf } from '../../application/plan.ts';
import { openClient } from '../../connection/server.ts';
import { parseCount, parseSince } from '../../options/parse.ts';
import { CliFailure, usage } from '../../failure.ts';
import { formatLogLine } from '../../output/function-text.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff logs hello                        the last 100 lines
  $ skiff logs hello -f                     go on until Ctrl-C
  $ skiff logs hello --since 10m --level error
  $ skiff logs inv-01…                      of one call; its id is in the answer's Skiff-Invocation-Id
  $ skiff logs hello --json | jq .message
  $ skiff logs -f                           all functions of the application in this folder
`;

const TAIL_DEFAULT = 100;
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export function define(command: Command, session: Session): void {
  command
    .argument(
      '[function]',
      'name of the function, or id of a call; without one, all of the application in this folder',
    )
    .option('-f, --follow', 'go on with new lines')
    .option(
      '-n, --tail <lines>',
      `past lines to show at most (default: ${TAIL_DEFAULT}, or all with --since)`,
      parseCount,
    )
    .option('--since <time>', 'not older than this: 30s, 5m, 2h, or a date and time')
    .addOption(createLevelOption())
    .option('--invocation <id>', 'of this invocation')
    .option('--egress', 'only connections that its network policy refused')
    .option('-t, --timestamps', 'show date and time in full')
    .option('--json', 'one JSON object a line')
    .addHelpText('after', EXAMPLES)
    .action(async (name, options) => {
      const sinceMs = options.since === undefined ? undefined : parseSince(options.since, Date.now());
      const isNarrow = sinceMs !== undefined || options.invocation !== undefined;
      const selection = {
        follow: options.follow,
        tail: options.tail ?? (isNarrow ? undefined : TAIL_DEFAULT),
        sinceMs,
        level: options.level,
        invocation: options.invocation,
        egress: options.egress,
        signal: session.signal,
      };
      const client = openClient(session);
      if (name?.startsWith('inv-')) {
        // What a call is of says its trace; then its function's log has its lines.
        const [first] = (await client.trace(name, { signal: session.signal })).spans;
        if (!first) throw new CliFailure(`${name} has not run yet`, { hint: 'its log begins when it runs' });
        selection.invocation = name;
        selection.tail = options.tail;
        name = first.functionName;
      }
      const hasDate = options.timestamps === true;
      if (name === undefined) {
        const functions = membersOf(await client.list({ signal: session.signal }), findProject(session));
        const isJson = options.json === true;
        return followApplication(session, client, functions, { ...selection, isJson, hasDate });
      }
      const { out } = session.output;
      for await (const line of client.logs(name, selection)) {
        await out.write(options.json ? `${JSON.stringify(line)}\n` : formatLogLine(out, line, hasDate));
      }
    });
}

function findProject(session: Session): Project {
  if (tryFindFiles(session.cwd) === undefined && !session.env['COMPOSE_FILE'])
    throw usage(
      'which function?',
      'skiff logs hello; or, in a folder with a compose.yaml, all of it: skiff logs',
    );
  return readProject(session, {});
}

function createLevelOption() {
  return new Option('--level <level>', 'this level and worse').choices(LEVELS);
}
