/**
 * Several things that go on at once, one line each. On a terminal the lines are redrawn in place; elsewhere each thing
 * is one plain line when it ends, so that a log file stays readable.
 */
import type { Channel } from './channel.ts';
import { formatMs } from './quantities.ts';

export interface Board {
  /** What a row is doing now. */
  set(name: string, status: string): void;
  done(name: string, outcome: 'ok' | 'failed' | 'skipped', text: string): void;
  /** Leaves the last state on the screen. */
  stop(): void;
}

interface Row {
  status: string;
  outcome?: 'ok' | 'failed' | 'skipped';
  startMs?: number;
  ms?: number;
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'] as const;
const FRAME_MS = 80;

export function createBoard(channel: Channel, names: readonly string[]): Board {
  const rows = new Map<string, Row>(names.map((name) => [name, { status: 'waiting' }]));
  const width = Math.max(0, ...names.map((name) => name.length));
  let drawn = 0;
  let frame = 0;

  const format = (name: string, row: Row): string => {
    const mark =
      row.outcome === 'ok'
        ? channel.style('green', '✓')
        : row.outcome === 'failed'
          ? channel.style('red', '✗')
          : row.outcome === 'skipped'
            ? channel.style('dim', '-')
            : row.startMs === undefined
              ? ' '
              : channel.style('cyan', FRAMES[frame % FRAMES.length] as string);
    const ms = row.ms ?? (row.startMs === undefined ? 0 : Date.now() - row.startMs);
    const time = ms < 500 && row.outcome === undefined ? '' : channel.style('dim', formatMs(ms));
    const room = Math.max(10, channel.columns - width - 14);
    const status = row.status.length > room ? `${row.status.slice(0, room - 1)}…` : row.status;
    return `${mark} ${name.padEnd(width)}  ${status}  ${row.startMs === undefined ? '' : time}`.trimEnd();
  };
  const draw = (): void => {
    frame++;
    const up = drawn === 0 ? '' : `\u001b[${drawn}A`;
    const lines = [...rows].map(([name, row]) => `\u001b[2K${format(name, row)}\n`);
    void channel.write(up + lines.join(''));
    drawn = rows.size;
  };
  const timer = channel.isTty && rows.size > 0 ? setInterval(draw, FRAME_MS) : undefined;

  return {
    set(name, status) {
      const row = rows.get(name);
      if (!row) return;
      row.status = status;
      row.startMs ??= Date.now();
    },
    done(name, outcome, text) {
      const row = rows.get(name);
      if (!row) return;
      row.status = text;
      row.outcome = outcome;
      if (row.startMs !== undefined) row.ms = Date.now() - row.startMs;
      if (!channel.isTty) channel.line(format(name, row));
    },
    stop() {
      clearInterval(timer);
      if (channel.isTty && rows.size > 0) draw();
    },
  };
}
