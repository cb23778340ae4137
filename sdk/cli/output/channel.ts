/** One output stream of the CLI with what it can show: colour, width, redrawing. */
import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'blue' | 'magenta' | 'cyan';

export interface Channel {
  readonly isTty: boolean;
  readonly columns: number;
  readonly rows: number;
  /** The text in a colour, or as it is where colours are not wanted. */
  style(style: Style | readonly Style[], text: string): string;
  /** Resolves when the stream takes more: a slow reader slows the writer down. */
  write(chunk: string | Uint8Array): Promise<void>;
  line(text?: string): void;
}

export interface Output {
  /** Results: what a script reads. */
  readonly out: Channel;
  /** Everything said to a person: progress, notes, errors. */
  readonly err: Channel;
  json(value: unknown): void;
}

type Env = Readonly<Record<string, string | undefined>>;
type Stream = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};

const COLUMNS_DEFAULT = 80;
const ROWS_DEFAULT = 24;

/** https://no-color.org: any non-empty value turns colours off. FORCE_COLOR is Node's own name for the opposite. */
export function wantsColor(env: Env, isTty: boolean): boolean {
  if (env['NO_COLOR']) return false;
  if (env['FORCE_COLOR'] !== undefined) return env['FORCE_COLOR'] !== '0' && env['FORCE_COLOR'] !== 'false';
  return isTty && env['TERM'] !== 'dumb';
}

export function createChannel(stream: Stream, env: Env): Channel {
  const isTty = stream.isTTY === true;
  const hasColor = wantsColor(env, isTty);
  return {
    isTty,
    get columns() {
      return stream.columns || Number(env['COLUMNS']) || COLUMNS_DEFAULT;
    },
    get rows() {
      return stream.rows || ROWS_DEFAULT;
    },
    style: (style, text) => (hasColor ? styleText(style, text, { validateStream: false }) : text),
    line: (text = '') => void stream.write(`${text}\n`),
    write: (chunk) =>
      new Promise((resolve) => {
        if (stream.write(chunk)) resolve();
        else stream.once('drain', resolve);
      }),
  };
}

export function createOutput(stdout: Stream, stderr: Stream, env: Env): Output {
  const out = createChannel(stdout, env);
  return {
    out,
    err: createChannel(stderr, env),
    json: (value) => out.line(JSON.stringify(value, null, out.isTty ? 2 : 0)),
  };
}
