/**
 * Lines that are drawn over and over in the same place, as `top` does. Elsewhere than on a terminal every drawing is
 * written below the one before, with an empty line between, so that a pipe can be read.
 */
import { stripVTControlCharacters } from 'node:util';
import type { Channel } from './channel.ts';

export interface Screen {
  draw(lines: readonly string[]): void;
}

export function createScreen(channel: Channel): Screen {
  let drawn = 0;
  return {
    draw(lines) {
      if (!channel.isTty) {
        if (drawn > 0) channel.line();
        drawn = lines.length;
        for (const line of lines) channel.line(line);
        return;
      }
      // A line more than the terminal has would scroll the first one out of reach.
      const shown = lines.slice(0, Math.max(1, channel.rows - 1));
      const up = drawn === 0 ? '' : `\u001b[${drawn}A\r`;
      const text = shown.map((line) => `\u001b[2K${cut(line, channel.columns)}\n`).join('');
      void channel.write(`${up}\u001b[J${text}`);
      drawn = shown.length;
    },
  };
}

/** A line that wraps would be two, and the next drawing would begin too low. */
function cut(line: string, columns: number): string {
  const plain = stripVTControlCharacters(line);
  return plain.length <= columns ? line : `${plain.slice(0, columns - 1)}…`;
}
