/** How far `skiff map` is: a bar that is redrawn on a terminal, a line now and then elsewhere. */
import type { Channel } from '../output/channel.ts';
import { formatMs } from '../output/quantities.ts';

const DRAW_MS = 100;
const PLAIN_MS = 10_000;
const BAR_CHARS = 24;

export interface Bar {
  add(isGood: boolean): void;
  /** Leaves the screen clean. */
  stop(): void;
}

/** `known`: results that were there before. */
export function createBar(channel: Channel, total: number, known: number): Bar {
  const startMs = Date.now();
  let done = known;
  let failed = 0;
  const describe = (): string => {
    const seconds = (Date.now() - startMs) / 1000;
    const rate = seconds > 0.5 ? (done - known) / seconds : 0;
    const left = rate > 0 ? formatMs(((total - done) / rate) * 1000) : '';
    return [
      `${done}/${total}`,
      failed > 0 ? channel.style('red', `${failed} failed`) : '',
      rate > 0 ? `${rate >= 10 ? Math.round(rate) : rate.toFixed(1)}/s` : '',
      left && done < total ? `${left} left` : '',
    ]
      .filter(Boolean)
      .join('  ');
  };
  const draw = (): void => {
    const filled = total === 0 ? BAR_CHARS : Math.floor((done / total) * BAR_CHARS);
    const bar =
      channel.style('cyan', '█'.repeat(filled)) + channel.style('dim', '░'.repeat(BAR_CHARS - filled));
    void channel.write(`\r\u001b[2K${bar} ${describe()}`);
  };
  const timer = channel.isTty
    ? setInterval(draw, DRAW_MS)
    : setInterval(() => channel.line(describe()), PLAIN_MS);
  if (channel.isTty) draw();
  return {
    add(isGood) {
      done++;
      if (!isGood) failed++;
    },
    stop() {
      clearInterval(timer);
      if (channel.isTty) void channel.write('\r\u001b[2K');
    },
  };
}
