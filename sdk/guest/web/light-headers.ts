/**
 * Headers (WHATWG Fetch §5.1) without the runtime's fetch stack behind it: touching the runtime's own class loads all
 * of undici, TLS and HTTP/2, which costs tens of milliseconds and megabytes in every sandbox, and most functions never
 * use any of it. Real constructors and fetch() take one of these as they take any iterable of pairs.
 */
import { inspect } from 'node:util';

type Pair = [string, string];

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** No NUL, no line ends, nothing above one byte. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const BLANKS = /^[\t\n\r ]+|[\t\n\r ]+$/g;

function normalizeName(name: unknown): string {
  const text = String(name);
  if (!NAME.test(text)) throw new TypeError(`Headers: "${text}" is an invalid header name.`);
  return text.toLowerCase();
}

function normalizeValue(name: string, value: unknown): string {
  const text = String(value);
  if (VALUE.test(text) && !/^[\t ]|[\t ]$/.test(text)) return text;
  const trimmed = text.replace(BLANKS, '');
  if (!VALUE.test(trimmed))
    throw new TypeError(`Headers: the value of "${name}" is an invalid header value.`);
  return trimmed;
}

export class LightHeaders {
  #list: Pair[] = [];

  constructor(init?: unknown) {
    if (init === undefined) return;
    if (typeof init !== 'object' || init === null) {
      throw new TypeError('Headers: the argument is neither an object nor a sequence of pairs.');
    }
    if (Symbol.iterator in init) this.#appendPairs(init as Iterable<Iterable<string>>);
    else for (const [name, value] of Object.entries(init)) this.append(name, value as string);
  }

  /** For lists that were checked already: names lower case, values without blanks at their ends. */
  static fromChecked(list: readonly (readonly [string, string])[]): LightHeaders {
    const headers = new LightHeaders();
    headers.#list = list as Pair[];
    return headers;
  }

  #appendPairs(pairs: Iterable<Iterable<string>>): void {
    for (const pair of pairs) {
      const parts = [...pair];
      if (parts.length !== 2)
        throw new TypeError('Headers: each element must be a pair of a name and a value.');
      this.append(parts[0] as string, parts[1] as string);
    }
  }

  append(name: string, value: string): void {
    const lower = normalizeName(name);
    this.#list = [...this.#list, [lower, normalizeValue(lower, value)]];
  }

  set(name: string, value: string): void {
    const lower = normalizeName(name);
    const text = normalizeValue(lower, value);
    const at = this.#list.findIndex(([other]) => other === lower);
    if (at === -1) this.#list = [...this.#list, [lower, text]];
    else {
      this.#list = this.#list.filter(([other], index) => other !== lower || index === at);
      this.#list[at] = [lower, text];
    }
  }

  delete(name: string): void {
    const lower = normalizeName(name);
    this.#list = this.#list.filter(([other]) => other !== lower);
  }

  get(name: string): string | null {
    const lower = normalizeName(name);
    let found: string | null = null;
    for (const [other, value] of this.#list) {
      if (other === lower)
        found = found === null ? value : `${found}${lower === 'cookie' ? '; ' : ', '}${value}`;
    }
    return found;
  }

  has(name: string): boolean {
    const lower = normalizeName(name);
    return this.#list.some(([other]) => other === lower);
  }

  getSetCookie(): string[] {
    return this.#list.filter(([name]) => name === 'set-cookie').map(([, value]) => value);
  }

  /** Sorted by name, values of one name joined, each Set-Cookie by itself. */
  #sorted(): Pair[] {
    const names = [...new Set(this.#list.map(([name]) => name))].toSorted();
    return names.flatMap((name): Pair[] =>
      name === 'set-cookie'
        ? this.getSetCookie().map((value): Pair => [name, value])
        : [[name, this.get(name) as string]],
    );
  }

  forEach(callback: (value: string, name: string, headers: this) => void, thisArg?: unknown): void {
    for (const [name, value] of this.#sorted()) callback.call(thisArg, value, name, this);
  }

  *entries(): IterableIterator<Pair> {
    yield* this.#sorted();
  }

  *keys(): IterableIterator<string> {
    for (const [name] of this.#sorted()) yield name;
  }

  *values(): IterableIterator<string> {
    for (const [, value] of this.#sorted()) yield value;
  }

  [Symbol.iterator](): IterableIterator<Pair> {
    return this.entries();
  }

  get [Symbol.toStringTag](): string {
    return 'Headers';
  }

  [inspect.custom](): string {
    return `Headers ${inspect(Object.fromEntries(this.#sorted()))}`;
  }
}
