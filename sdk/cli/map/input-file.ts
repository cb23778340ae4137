/** The inputs of `skiff map`: one JSON value a line. Read as a stream: a file may be larger than memory. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { usage } from '../failure.ts';

export interface InputLine {
  /** From 1, as editors count. */
  readonly line: number;
  readonly text: string;
  /** Of the text: says whether a result belongs to it. */
  readonly digest: string;
}

/** Lines with nothing on them are passed over. @throws CliFailure for one that is not JSON */
export async function* readInputs(path: string): AsyncGenerator<InputLine, void, undefined> {
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Infinity });
  let line = 0;
  for await (const raw of lines) {
    line++;
    const text = raw.trim();
    if (text === '') continue;
    try {
      JSON.parse(text);
    } catch (error) {
      throw usage(
        `line ${line} of ${path} is not JSON: ${(error as Error).message}`,
        'one JSON value a line',
      );
    }
    yield { line, text, digest: createHash('sha256').update(text).digest('hex').slice(0, 16) };
  }
}
