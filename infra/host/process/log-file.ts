/**
 * The log of one process: lines appended to a file that rotates, so that logs have a budget by construction.
 * A full disk loses log lines, counted, and never stops the process that wrote them.
 */
import { closeSync, fstatSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { PROCESS_LOG_BYTES_MAX, PROCESS_LOG_FILES_KEPT } from '../../../sdk/protocol/limits.ts';

export class LogFile {
  readonly path: string;
  readonly #bytesMax: number;
  readonly #filesKept: number;
  #descriptor: number;
  #bytes: number;
  #linesLost = 0;
  #isClosed = false;

  constructor(path: string, bytesMax = PROCESS_LOG_BYTES_MAX, filesKept = PROCESS_LOG_FILES_KEPT) {
    this.path = path;
    this.#bytesMax = bytesMax;
    this.#filesKept = filesKept;
    this.#descriptor = openSync(path, 'a', 0o600);
    this.#bytes = fstatSync(this.#descriptor).size;
  }

  /** Written at once, to the page cache: a supervisor that dies loses no line. */
  write(line: string): void {
    // The number of a closed descriptor may already belong to another file.
    if (this.#isClosed) return;
    try {
      if (this.#bytes > this.#bytesMax) this.#rotate();
      if (this.#linesLost > 0)
        this.#append(JSON.stringify({ level: 'warn', role: 'host', msg: `${this.#linesLost} lines lost` }));
      this.#linesLost = 0;
      this.#append(line);
    } catch {
      this.#linesLost += 1;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.#descriptor);
  }

  #append(line: string): void {
    this.#bytes += writeSync(this.#descriptor, `${line}\n`);
  }

  /** `x.log` becomes `x.log.1`, `x.log.1` becomes `x.log.2`; the oldest goes. */
  #rotate(): void {
    rmSync(`${this.path}.${this.#filesKept}`, { force: true });
    for (let age = this.#filesKept; age > 0; age -= 1) {
      const from = age === 1 ? this.path : `${this.path}.${age - 1}`;
      try {
        renameSync(from, `${this.path}.${age}`);
      } catch {
        // That age does not exist yet.
      }
    }
    const fresh = openSync(this.path, 'a', 0o600);
    closeSync(this.#descriptor);
    this.#descriptor = fresh;
    this.#bytes = fstatSync(fresh).size;
  }
}
