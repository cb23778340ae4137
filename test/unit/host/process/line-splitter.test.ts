import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { splitLines } from '../../../../infra/host/process/line-splitter.ts';

async function linesOf(chunks: (string | Buffer)[], lengthMax: number): Promise<string[]> {
  const stream = new PassThrough();
  const lines: string[] = [];
  splitLines(stream, (line) => lines.push(line), lengthMax);
  const ended = new Promise((resolve) => stream.on('close', resolve));
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  await ended;
  return lines;
}

test('joins lines across chunks and gives the last one without a newline', async () => {
  expect(await linesOf(['a', 'b\nc', 'd\n\n', 'e'], 100)).toEqual(['ab', 'cd', 'e']);
});

test('cuts a line that is too long and says so, then reads on', async () => {
  expect(await linesOf(['x'.repeat(50), 'y'.repeat(50), '\nshort\n'], 10)).toEqual([
    `${'x'.repeat(10)}…`,
    'short',
  ]);
});

test('keeps a character whole that two chunks share', async () => {
  const bytes = Buffer.from('grüße\n');
  expect(await linesOf([bytes.subarray(0, 3), bytes.subarray(3)], 100)).toEqual(['grüße']);
});
