/**
 * What is open on a connection, by stream number. Numbers are given out in ascending order, so an entry lies where the
 * low bits of its number say, and a stream that opens and closes leaves nothing behind.
 *
 * Not a Map: V8 grows one by making a new table that the old one points to. Tables that were thrown away one after the
 * other keep each other alive until a full collection, each with what it held when it was left, so that all calls of
 * minutes are copied again and again: 14 ms for each small collection of a gateway under load, where 1.6 ms suffice.
 * Invariant: as Map's for get, set, delete and size; the order of `values` is none.
 */
const CAPACITY_MIN = 8;
const CAPACITY_MAX = 65_536;

export class StreamTable<Value extends NonNullable<unknown>> {
  #mask = CAPACITY_MIN - 1;
  #streams: number[] = emptyPlaces(CAPACITY_MIN, 0);
  #values: (Value | undefined)[] = emptyPlaces<Value | undefined>(CAPACITY_MIN, undefined);
  /** Those whose place a stream that is open for longer has. */
  readonly #displaced = new Map<number, Value>();
  #placed = 0;

  get size(): number {
    return this.#placed + this.#displaced.size;
  }

  get(stream: number): Value | undefined {
    const at = stream & this.#mask;
    const value = this.#values[at];
    if (value !== undefined && this.#streams[at] === stream) return value;
    return this.#displaced.size === 0 ? undefined : this.#displaced.get(stream);
  }

  has(stream: number): boolean {
    return this.get(stream) !== undefined;
  }

  set(stream: number, value: Value): void {
    if (this.#displaced.has(stream)) this.#displaced.delete(stream);
    else if (this.#placed * 2 > this.#mask && this.#mask < CAPACITY_MAX - 1) this.#grow();
    this.#place(stream, value);
  }

  delete(stream: number): boolean {
    const at = stream & this.#mask;
    if (this.#values[at] === undefined || this.#streams[at] !== stream)
      return this.#displaced.size > 0 && this.#displaced.delete(stream);
    this.#values[at] = undefined;
    this.#placed--;
    return true;
  }

  /** Entries may be deleted meanwhile. */
  *values(): IterableIterator<Value> {
    const values = this.#values;
    const streams = this.#streams;
    for (let at = 0; at < values.length; at++) {
      const value = values[at];
      // It may have grown meanwhile, and this is what it was before.
      if (value !== undefined && (values === this.#values || this.get(streams[at] as number) === value))
        yield value;
    }
    yield* this.#displaced.values();
  }

  clear(): void {
    this.#values.fill(undefined);
    this.#displaced.clear();
    this.#placed = 0;
  }

  #place(stream: number, value: Value): void {
    const at = stream & this.#mask;
    if (this.#values[at] === undefined) this.#placed++;
    else if (this.#streams[at] !== stream) {
      this.#displaced.set(stream, value);
      return;
    }
    this.#streams[at] = stream;
    this.#values[at] = value;
  }

  #grow(): void {
    const streams = this.#streams;
    const values = this.#values;
    const displaced = [...this.#displaced];
    const capacity = (this.#mask + 1) * 2;
    this.#mask = capacity - 1;
    this.#streams = emptyPlaces(capacity, 0);
    this.#values = emptyPlaces<Value | undefined>(capacity, undefined);
    this.#displaced.clear();
    this.#placed = 0;
    for (const [at, value] of values.entries())
      if (value !== undefined) this.#place(streams[at] as number, value);
    for (const [stream, value] of displaced) this.#place(stream, value);
  }
}

function emptyPlaces<Place>(length: number, place: Place): Place[] {
  return Array.from({ length }, () => place);
}
