/** Shows what happens during `skiff dev`: one line an event, the function's name in front when there are several. */
import type { DevEvent } from '../../dev/events.ts';
import type { Channel, Output, Style } from '../output/channel.ts';
import { formatLevel, formatLogFields, makeSafe } from '../output/function-text.ts';
import { formatMs } from '../output/quantities.ts';
import { relative } from 'node:path';

const COLOURS: readonly Style[] = ['cyan', 'magenta', 'blue', 'green', 'yellow'];
const ID_CHARS = 8;

export interface EventPrinter {
  print(event: DevEvent): void;
}

export function createEventPrinter(
  { out, err }: Output,
  names: readonly string[],
  cwd: string,
): EventPrinter {
  const width = Math.max(...names.map((name) => name.length));
  const prefix = (channel: Channel, fn: string): string => {
    if (names.length === 1) return '';
    const colour = COLOURS[names.indexOf(fn) % COLOURS.length] as Style;
    return `${channel.style(colour, fn.padEnd(width))} `;
  };
  // What functions wrote cannot hurt the terminal; the bundler's messages have colours of their own and stay.
  const say = (fn: string, text: string): void => {
    for (const line of text.trimEnd().split('\n')) err.line(`${prefix(err, fn)}${line}`);
  };
  return {
    print(event) {
      switch (event.type) {
        case 'live': {
          const cause =
            event.changed === undefined ? 'ready' : `${relative(cwd, event.changed)} changed, live`;
          return say(event.fn, `${err.style('green', '✓')} ${cause} in ${formatMs(event.ms)}`);
        }
        case 'failed':
          return say(event.fn, `${err.style('red', '✗')} ${event.message.replace(/^✘ /, '')}`);
        case 'warning':
          return say(event.fn, `${err.style('yellow', '!')} ${event.message.replace(/^▲ /, '')}`);
        case 'request':
          return printRequest(event);
        case 'log': {
          const id = out.style('dim', (event.invocation ?? '-').slice(-ID_CHARS).padEnd(ID_CHARS));
          const { level, message, fields } = event.log;
          const text = `${makeSafe(message)}${formatLogFields(out, fields)}`;
          return out.line(`${prefix(out, event.fn)}${formatLevel(out, level)} ${id} ${text}`);
        }
        case 'output':
          return out.line(`${prefix(out, event.fn)}${makeSafe(event.line)}`);
      }
    },
  };

  function printRequest(event: Extract<DevEvent, { type: 'request' }>): void {
    const { fn, method, path, status, ms, stack } = event;
    const style: Style =
      status === undefined ? 'yellow' : status >= 500 ? 'red' : status >= 400 ? 'yellow' : 'green';
    const result = out.style(style, status === undefined ? 'left' : String(status));
    const time = out.style('dim', formatMs(ms));
    out.line(`${prefix(out, fn)}${result} ${method} ${makeSafe(path)} ${time}`);
    if (stack === undefined) return;
    for (const line of makeSafe(stack).split('\n')) out.line(`${prefix(out, fn)}  ${out.style('red', line)}`);
  }
}
