/** `skiff logs`: what a function logged, and with -f what it is logging. */
import { type Command, Option } from '@commander-js/extra-typings';
import type { LogLine } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { parseCount, parseSince } from '../../options/parse.ts';
import type { Channel } from '../../output/channel.ts';
import { formatLevel, formatLogFields, makeSafe } from '../../output/function-text.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff logs hello                        the last 100 lines
  $ skiff logs hello -f                     go on until Ctrl-C
  $ skiff logs hello --since 10m --level error
  $ skiff logs hello --invocation inv-01…   of one call; its id is in the answer's Skiff-Invocation-Id
  $ skiff logs hello --json | jq .message
`;

const TAIL_DEFAULT = 100;
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
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
      const lines = openClient(session).logs(name, {
        follow: options.follow,
        tail: options.tail ?? (isNarrow ? undefined : TAIL_DEFAULT),
        sinceMs,
        level: options.level,
        invocation: options.invocation,
        egress: options.egress,
        signal: session.signal,
      });
      const { out } = session.output;
      for await (const line of lines) {
        await out.write(
          options.json ? `${JSON.stringify(line)}\n` : formatLine(out, line, options.timestamps === true),
        );
      }
    });
}

function createLevelOption() {
  return new Option('--level <level>', 'this level and worse').choices(LEVELS);
}

const TIME_AT = 11;
const TIME_CHARS = 12;
const ID_CHARS = 8;

function formatLine(out: Channel, line: LogLine, hasDate: boolean): string {
  const iso = new Date(line.atMs).toISOString();
  const time = out.style('dim', hasDate ? iso : iso.slice(TIME_AT, TIME_AT + TIME_CHARS));
  const level = formatLevel(out, line.level);
  // The end of an id is its random part: enough to see which lines belong together.
  const id = line.invocation === undefined ? '-'.padEnd(ID_CHARS) : line.invocation.slice(-ID_CHARS);
  const source = line.source === 'platform' ? out.style('magenta', 'skiff: ') : '';
  const text = `${makeSafe(line.message)}${formatLogFields(out, line.fields)}`;
  return `${time} ${level} ${out.style('dim', id)} ${source}${text}\n`;
}
