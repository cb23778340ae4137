/** Reading a stream of JSON lines one at a time, so that a test can do things in between. */
export interface LineReader<Line> {
  /** The next line, undefined at the end; rejects after `msMax`. */
  next(msMax?: number): Promise<Line | undefined>;
  rest(): Promise<Line[]>;
  /** Leaves, as a client that goes away. */
  cancel(): Promise<void>;
}

export function readLines<Line>(response: Response): LineReader<Line> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let text = '';
  async function next(msMax = 10_000): Promise<Line | undefined> {
    for (;;) {
      const end = text.indexOf('\n');
      if (end >= 0) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        return JSON.parse(line) as Line;
      }
      const { done, value } = await within(reader.read(), msMax);
      if (done) return undefined;
      text += decoder.decode(value, { stream: true });
    }
  }
  return {
    next,
    async rest() {
      const lines: Line[] = [];
      for (let line = await next(); line !== undefined; line = await next()) lines.push(line);
      return lines;
    },
    cancel: () => reader.cancel(),
  };
}

async function within<T>(promise: Promise<T>, msMax: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no line within ${msMax} ms`)), msMax);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}
