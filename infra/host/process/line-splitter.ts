/** Splits a process's output into lines, of bounded length whatever the process writes. */
import type { Readable } from 'node:stream';
import { PROCESS_LINE_BYTES_MAX } from '../../../sdk/protocol/limits.ts';

/** Calls `onLine` for each line that is not empty. A longer line is cut and the rest of it dropped. */
export function splitLines(
  stream: Readable,
  onLine: (line: string) => void,
  lengthMax = PROCESS_LINE_BYTES_MAX,
): void {
  let pending = '';
  let isCut = false;
  const end = () => {
    if (pending.length > 0) onLine(isCut ? `${pending}…` : pending);
    pending = '';
    isCut = false;
  };
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const pieces = text.split('\n');
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) end();
      const room = lengthMax - pending.length;
      pending += piece.slice(0, room);
      isCut ||= piece.length > room;
    }
  });
  stream.on('end', end);
  // A pipe that breaks ends the output; how the process itself ended is its exit event's to say.
  stream.on('error', end);
}
