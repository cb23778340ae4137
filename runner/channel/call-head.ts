/** Checks what a guest says when it calls: hostile until proven otherwise. */
import { Header } from '../../sdk/protocol/http.ts';
import type { CallHead, HeaderList } from '../../sdk/protocol/invocation.ts';
import { URL_BYTES_MAX } from '../../sdk/protocol/limits.ts';

const METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}$/;
const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]{1,128}$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const PATH = /^\/[\x21-\x7e]*$/;

/** What the platform says of a call, and a function may not say itself. */
const RESERVED: ReadonlySet<string> = new Set([
  Header.callDepth,
  Header.caller,
  Header.invocationId,
  Header.attempt,
  Header.traceparent,
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'upgrade',
]);

/** Undefined when it is none; headers that are the platform's are left out. */
export function tryReadCallHead(value: unknown): CallHead | undefined {
  const { parent, target, method, path, headers } = (value ?? {}) as Partial<CallHead>;
  const isHead =
    typeof parent === 'number' &&
    typeof target === 'string' &&
    typeof method === 'string' &&
    METHOD.test(method) &&
    typeof path === 'string' &&
    path.length <= URL_BYTES_MAX &&
    PATH.test(path) &&
    Array.isArray(headers);
  if (!isHead) return undefined;
  const list: [string, string][] = [];
  for (const pair of headers as unknown[]) {
    if (!isHeader(pair)) return undefined;
    if (!RESERVED.has(pair[0])) list.push([pair[0], pair[1]]);
  }
  return { parent, target, method, path, headers: list satisfies HeaderList };
}

function isHeader(pair: unknown): pair is [string, string] {
  if (!Array.isArray(pair) || pair.length !== 2) return false;
  const [name, value] = pair as unknown[];
  return typeof name === 'string' && typeof value === 'string' && NAME.test(name) && VALUE.test(value);
}
