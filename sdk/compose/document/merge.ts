/**
 * Merges canonical compose values (canonical.ts): a later file over an earlier one, a service over what it extends.
 * Mappings are merged, lists appended, all else replaced; commands and health checks are replaced as a whole, and lists
 * of things with a key (ports, volumes, secrets, configs) have each key once, the later one.
 */
import { isMapValue, Override, RESET, type YamlMap } from './yaml-file.ts';

/** Last parts of paths whose list is replaced and not appended to. */
const REPLACED: ReadonlySet<string> = new Set(['command', 'entrypoint', 'healthcheck.test']);

type KeyOf = (item: YamlMap) => string;
const KEYED: Readonly<Record<string, KeyOf>> = {
  ports: ({ host_ip: ip, published, target, protocol }) => [ip, published, target, protocol].join('|'),
  volumes: ({ target }) => String(target),
  secrets: ({ source, target }) => String(target ?? source),
  configs: ({ source, target }) => String(target ?? source),
  env_file: ({ path }) => String(path),
};

export function mergeValues(base: unknown, over: unknown, path: readonly string[] = []): unknown {
  if (over === RESET) return undefined;
  if (over instanceof Override) return dropMarks(over.value);
  if (over === undefined) return base;
  if (isMapValue(base) && isMapValue(over)) return mergeMaps(base, over, path);
  if (Array.isArray(base) && Array.isArray(over) && !isReplaced(path)) return mergeLists(base, over, path);
  // `key:` with nothing behind it changes nothing of a mapping, as in docker compose.
  if (over === null && isMapValue(base)) return base;
  return dropMarks(over);
}

function mergeMaps(base: YamlMap, over: YamlMap, path: readonly string[]): YamlMap {
  const merged: YamlMap = { ...base };
  // Options mean something to their own driver only.
  const isOtherDriver =
    path.at(-1) === 'logging' && over['driver'] !== undefined && over['driver'] !== base['driver'];
  if (isOtherDriver) delete merged['options'];
  for (const [key, value] of Object.entries(over)) {
    const result = mergeValues(merged[key], value, [...path, key]);
    if (result === undefined) delete merged[key];
    else merged[key] = result;
  }
  return merged;
}

function mergeLists(base: readonly unknown[], over: readonly unknown[], path: readonly string[]): unknown[] {
  const keyOf = KEYED[path.at(-1) ?? ''];
  const items = new Map<string, unknown>();
  for (const item of [...base, ...over.map(dropMarks)]) {
    const key = keyOf && isMapValue(item) ? keyOf(item) : JSON.stringify(item);
    // At the end also when it was there before: order says who is later.
    items.delete(key);
    items.set(key, item);
  }
  return [...items.values()];
}

function isReplaced(path: readonly string[]): boolean {
  return REPLACED.has(path.at(-1) ?? '') || REPLACED.has(path.slice(-2).join('.'));
}

/** What has no counterpart in an earlier file is taken as it is. */
export function dropMarks(value: unknown): unknown {
  if (value === RESET) return undefined;
  if (value instanceof Override) return dropMarks(value.value);
  if (Array.isArray(value)) return value.map(dropMarks).filter((item) => item !== undefined);
  if (!isMapValue(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, item]) => [key, dropMarks(item)] as const)
      .filter(([, item]) => item !== undefined),
  );
}
