/** Virtual time: what is to happen, in order. Equal times keep the order in which they were asked for. */
interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

export class Timeline {
  /** A binary heap. */
  readonly #heap: Event[] = [];
  #order = 0;
  #now = 0;

  get now(): number {
    return this.#now;
  }

  at(atMs: number, run: () => void): void {
    const heap = this.#heap;
    heap.push({ atMs, order: this.#order++, run });
    let index = heap.length - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (isBefore(heap[parent] as Event, heap[index] as Event)) break;
      swap(heap, parent, index);
      index = parent;
    }
  }

  after(ms: number, run: () => void): void {
    this.at(this.#now + ms, run);
  }

  every(ms: number, run: () => void): void {
    this.after(ms, () => {
      run();
      this.every(ms, run);
    });
  }

  runUntil(endMs: number): void {
    for (let next = this.#pop(endMs); next; next = this.#pop(endMs)) {
      this.#now = next.atMs;
      next.run();
    }
    this.#now = endMs;
  }

  #pop(endMs: number): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    if (!first || first.atMs > endMs) return undefined;
    const last = heap.pop() as Event;
    if (heap.length === 0) return first;
    heap[0] = last;
    for (let index = 0; ;) {
      const [left, right] = [2 * index + 1, 2 * index + 2];
      let least = index;
      if (left < heap.length && isBefore(heap[left] as Event, heap[least] as Event)) least = left;
      if (right < heap.length && isBefore(heap[right] as Event, heap[least] as Event)) least = right;
      if (least === index) return first;
      swap(heap, least, index);
      index = least;
    }
  }
}

function isBefore(one: Event, other: Event): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}

function swap(heap: Event[], one: number, other: number): void {
  const held = heap[one] as Event;
  heap[one] = heap[other] as Event;
  heap[other] = held;
}
