/**
 * What a long command is doing: one line a step. On a terminal the running step turns and is redrawn in place;
 * elsewhere every finished step is one plain line, so that a log file stays readable.
 */
import type { Channel } from './channel.ts';
import { formatMs } from './quantities.ts';

export interface Progress {
  start(step: string, detail?: string): void;
  /** How far the running step is; shown on a terminal alone. */
  update(detail: string): void;
  done(step: string, ms: number, detail?: string): void;
  /** A line of output of the step, for example of the bundler. */
  log(text: string): void;
  /** The running step ended badly, or everything ended: leaves the screen clean. */
  stop(outcome?: 'failed'): void;
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'] as const;
const FRAME_MS = 80;
const STEP_CHARS = 9;
const CLEAR_LINE = '\r\u001b[2K';

export function createProgress(channel: Channel, isQuiet = false): Progress {
  if (isQuiet) return { start() {}, update() {}, done() {}, log() {}, stop() {} };
  return channel.isTty ? createLive(channel) : createPlain(channel);
}

function createPlain(channel: Channel): Progress {
  let running: string | undefined;
  return {
    start(step) {
      running = step;
    },
    update() {},
    done(step, ms, detail) {
      running = undefined;
      channel.line([step.padEnd(STEP_CHARS), formatMs(ms), detail].filter(Boolean).join('  '));
    },
    log: (text) => channel.line(text),
    stop(outcome) {
      if (outcome === 'failed' && running !== undefined)
        channel.line(`${running.padEnd(STEP_CHARS)}  failed`);
    },
  };
}

function createLive(channel: Channel): Progress {
  let running: { step: string; detail: string; startMs: number } | undefined;
  let timer: NodeJS.Timeout | undefined;
  let frame = 0;

  const write = (text: string): void => void channel.write(text);
  const line = (mark: string, step: string, rest: string): string =>
    `${mark} ${step.padEnd(STEP_CHARS)} ${rest}`;
  const draw = (): void => {
    if (!running) return;
    const mark = channel.style('cyan', FRAMES[frame++ % FRAMES.length] as string);
    const ms = Date.now() - running.startMs;
    // Below half a second a number that counts is only noise.
    const time = ms < 500 ? '' : channel.style('dim', formatMs(ms));
    write(CLEAR_LINE + line(mark, running.step, [time, running.detail].filter(Boolean).join('  ')));
  };
  const clear = (): void => {
    clearInterval(timer);
    timer = undefined;
    if (running) write(CLEAR_LINE);
  };

  return {
    start(step, detail = '') {
      clear();
      running = { step, detail, startMs: Date.now() };
      timer = setInterval(draw, FRAME_MS);
      draw();
    },
    update(detail) {
      if (running) running.detail = detail;
    },
    done(step, ms, detail = '') {
      clear();
      running = undefined;
      const rest = `${channel.style('dim', formatMs(ms).padStart(8))}  ${detail}`.trimEnd();
      channel.line(line(channel.style('green', '✓'), step, rest));
    },
    log(text) {
      if (running) write(CLEAR_LINE);
      for (const part of text.split('\n')) channel.line(channel.style('dim', `  ${part}`));
      draw();
    },
    stop(outcome) {
      clear();
      if (running && outcome === 'failed')
        channel.line(line(channel.style('red', '✗'), running.step, 'failed'));
      running = undefined;
    },
  };
}
