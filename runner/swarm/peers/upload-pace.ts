/**
 * How fast and how many at a time: all uploads of a node share one rate, so that they leave room on the line and in this
 * process for the calls that it serves. Few at a time: whoever has a layer whole gives it on, so two fast uploads reach a
 * crowd sooner than twenty slow ones.
 */

const UPLOADS_MAX = 3;
/** One node cannot take all places. */
const UPLOADS_OF_ONE_MAX = 2;
/** Waiting less costs more than it paces. */
const PAUSE_MS_MIN = 2;

export class UploadPace {
  readonly #bytesPerMs: number;
  readonly #uploads = new Map<string, number>();
  #count = 0;
  #freeAt = 0;

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1_000;
  }

  /** Undefined: there is no place now. Otherwise what gives it back. */
  tryBegin(nodeId: string): (() => void) | undefined {
    const own = this.#uploads.get(nodeId) ?? 0;
    if (this.#count >= UPLOADS_MAX || own >= UPLOADS_OF_ONE_MAX) return undefined;
    this.#count++;
    this.#uploads.set(nodeId, own + 1);
    return () => {
      this.#count--;
      const left = (this.#uploads.get(nodeId) ?? 0) - 1;
      if (left > 0) this.#uploads.set(nodeId, left);
      else this.#uploads.delete(nodeId);
    };
  }

  /** Resolves when so many bytes may be sent. */
  async take(bytes: number): Promise<void> {
    const now = performance.now();
    const at = Math.max(now, this.#freeAt);
    this.#freeAt = at + bytes / this.#bytesPerMs;
    if (at - now >= PAUSE_MS_MIN) await new Promise((resolve) => setTimeout(resolve, at - now));
  }
}
