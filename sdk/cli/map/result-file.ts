/**
 * The results of `skiff map`: JSON lines, one for each input that has ended, written as they come. The first line names
 * the run, so that a command that is given again goes on where the last one stopped.
 * Invariant: a line is appended whole; what a kill left of one is passed over, and its input asked for again.
 */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, readFile, rename, writeFile, type FileHandle } from 'node:fs/promises';
import { usage } from '../failure.ts';

export interface MapResult {
  readonly line: number;
  readonly input: string;
  readonly id: string;
  readonly state: string;
  readonly status?: number | undefined;
  /** What the function answered: JSON as it is, a text, or base64 in `bytes`. */
  readonly result?: unknown;
  readonly bytes?: string;
  readonly error?: string | undefined;
  /** How often it was tried, each time from the beginning. */
  readonly tries: number;
}

export const isGood = ({ state }: Pick<MapResult, 'state'>): boolean => state === 'succeeded';

export class ResultFile {
  readonly run: string;
  /** Newest result of each line. */
  readonly known: ReadonlyMap<number, MapResult>;
  readonly #path: string;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle, run: string, known: Map<number, MapResult>) {
    this.#path = path;
    this.#handle = handle;
    this.run = run;
    this.known = known;
  }

  static async open(path: string, functionName: string): Promise<ResultFile> {
    const known = new Map<number, MapResult>();
    let run: string | undefined;
    for (const value of existsSync(path) ? parseLines(await readFile(path, 'utf8')) : []) {
      if ('map' in value) {
        const { map } = value as { map: { run: string; function: string } };
        if (map.function !== functionName)
          throw usage(`${path} has results of "${map.function}"`, 'give another file with --output');
        run = map.run;
      } else known.set((value as MapResult).line, value as MapResult);
    }
    if (run === undefined && known.size > 0)
      throw usage(`${path} is not a file of skiff map`, 'give another file with --output');
    const handle = await open(path, 'a');
    const head = { map: { run: run ?? randomUUID(), function: functionName } };
    // A line that was cut must not become part of the next one.
    await handle.write(run === undefined ? `${JSON.stringify(head)}\n` : '\n');
    return new ResultFile(path, handle, head.map.run, known);
  }

  async add(result: MapResult): Promise<void> {
    await this.#handle.write(`${JSON.stringify(result)}\n`);
    (this.known as Map<number, MapResult>).set(result.line, result);
  }

  /** One line for each input, in their order. */
  async close(functionName: string): Promise<void> {
    await this.#handle.close();
    const head = { map: { run: this.run, function: functionName } };
    const results = [...this.known.values()].toSorted((a, b) => a.line - b.line);
    const text = [head, ...results].map((value) => `${JSON.stringify(value)}\n`).join('');
    await writeFile(`${this.#path}.new`, text);
    await rename(`${this.#path}.new`, this.#path);
  }
}

function parseLines(text: string): object[] {
  return text.split('\n').flatMap((line) => {
    try {
      const value: unknown = JSON.parse(line);
      return typeof value === 'object' && value !== null ? [value] : [];
    } catch {
      return [];
    }
  });
}
