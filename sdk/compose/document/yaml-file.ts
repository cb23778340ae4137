/**
 * Compose YAML as plain values. Aliases and merge keys (`<<`) are resolved; the tags `!reset` and `!override`, which
 * say how a later file treats an earlier one, become marks that merge.ts understands.
 * Invariant: a file cannot make more values than NODES_MAX, whatever its aliases refer to.
 */
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type Scalar,
} from 'yaml';
import { SkiffError } from '../../protocol/errors.ts';

/** `!reset`: as if the key had never been there. */
export const RESET = Symbol('reset');

/** `!override`: in the place of what an earlier file says, not merged with it. */
export class Override {
  readonly value: unknown;
  constructor(value: unknown) {
    this.value = value;
  }
}

export type YamlMap = Record<string, unknown>;

const NODES_MAX = 100_000;
const DEPTH_MAX = 100;

/** @throws SkiffError INVALID_CONFIG with file, line and column */
export function parseYaml(text: string, file: string): YamlMap {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, merge: false, uniqueKeys: true });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw invalid(`${file}:${line}:${col}: ${error.message.split('\n', 1)[0]}`);
  }
  let count = 0;
  let depth = 0;
  const toValue = (node: unknown): unknown => {
    if (++count > NODES_MAX) throw invalid(`${file}: more than ${NODES_MAX} values; its aliases multiply`);
    if (depth > DEPTH_MAX)
      throw invalid(`${file}: nested more than ${DEPTH_MAX} deep; does an alias contain itself?`);
    depth++;
    try {
      return toPlain(node);
    } finally {
      depth--;
    }
  };
  const toPlain = (node: unknown): unknown => {
    if (node === null || node === undefined) return null;
    if (isAlias(node)) {
      const target = node.resolve(document);
      if (target === undefined) throw invalid(`${file}: the alias *${node.source} names no anchor before it`);
      return toValue(target);
    }
    const { tag } = node as Node;
    if (tag === '!reset') return RESET;
    const value = isMap(node)
      ? toMap(node.items as Pair[], toValue)
      : isSeq(node)
        ? node.items.map(toValue)
        : isScalar(node)
          ? toScalar(node)
          : null;
    return tag === '!override' ? new Override(value) : value;
  };
  const value = toValue(document.contents);
  if (value === null) return {};
  if (isMapValue(value)) return value;
  throw invalid(`${file}: a compose file is a mapping with services in it`);
}

/** `mode: 0440` is octal, as in YAML 1.1, which docker compose reads. */
function toScalar({ value, source }: Scalar): unknown {
  return typeof value === 'number' && /^0[0-7]+$/.test(source ?? '')
    ? Number.parseInt(source as string, 8)
    : value;
}

function toMap(pairs: readonly Pair[], toValue: (node: unknown) => unknown): YamlMap {
  const own: [string, unknown][] = [];
  const inherited: [string, unknown][] = [];
  for (const { key, value } of pairs) {
    const name = isScalar(key) ? String(key.value) : String(toValue(key));
    // As a key of a JavaScript object it is something else.
    if (name === '__proto__') throw invalid('"__proto__" cannot be a key');
    if (name !== '<<') own.push([name, toValue(value)]);
    else
      for (const base of [toValue(value)].flat())
        if (isMapValue(base)) inherited.push(...Object.entries(base));
  }
  // The first base wins over the next, and own keys over all.
  return Object.fromEntries([...inherited.toReversed(), ...own]);
}

export function isMapValue(value: unknown): value is YamlMap {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Override);
}

export function invalid(message: string): SkiffError {
  return new SkiffError('INVALID_CONFIG', message);
}
