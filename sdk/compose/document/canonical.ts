/**
 * Short forms into long ones, so that files can be merged and read in one way: lists of `NAME=value` become mappings,
 * `8080:80` a mapping of a port, `./data:/data:ro` one of a volume. Relative paths become absolute: the next file, or
 * the one that includes this one, may lie elsewhere.
 */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { invalid, isMapValue, Override, RESET, type YamlMap } from './yaml-file.ts';
import { splitWords } from './words.ts';

type Convert = (value: unknown, path: string, folder: string) => unknown;

/** Marks keep their place around the long form. */
function converting(convert: Convert): Convert {
  return (value, path, folder) => {
    if (value === RESET || value === undefined || value === null) return value;
    if (value instanceof Override) return new Override(convert(value.value, path, folder));
    return convert(value, path, folder);
  };
}

const assignments = converting((value, path) => {
  if (!Array.isArray(value)) return value;
  return Object.fromEntries(
    value.map((item, i) => {
      if (typeof item !== 'string') throw invalid(`${path}[${i}]: must be name=value`);
      const at = item.indexOf('=');
      return at === -1 ? [item, null] : [item.slice(0, at), item.slice(at + 1)];
    }),
  );
});

const list = converting((value) => (Array.isArray(value) ? value : [value]));
const words = converting((value, path) => (typeof value === 'string' ? splitWords(value, path) : value));
const location = converting((value, _path, folder) =>
  typeof value === 'string' && !isUrl(value) ? resolve(folder, expandHome(value)) : value,
);

const build = converting((value, path, folder) => {
  const long: YamlMap = typeof value === 'string' ? { context: value } : { ...(value as YamlMap) };
  if (long['context'] === undefined) long['context'] = '.';
  long['context'] = location(long['context'], path, folder);
  return within(long, path, folder, { args: assignments, labels: assignments, secrets: grants });
});

const networks = converting((value) =>
  Array.isArray(value) ? Object.fromEntries(value.map((name) => [String(name), null])) : value,
);

const dependencies = converting((value) =>
  Array.isArray(value)
    ? Object.fromEntries(
        value.map((name) => [String(name), { condition: 'service_started', required: true }]),
      )
    : value,
);

const grants = converting((value) =>
  (value as unknown[]).map((item) => (typeof item === 'string' ? { source: item } : item)),
);

const envFiles = converting((value, path, folder) =>
  (Array.isArray(value) ? value : [value]).map((item: unknown) => {
    const long: YamlMap = typeof item === 'string' ? { path: item } : { ...(item as YamlMap) };
    return { required: true, ...long, path: location(long['path'], path, folder) };
  }),
);

const healthcheck = converting((value) => {
  const long = { ...(value as YamlMap) };
  if (typeof long['test'] === 'string') long['test'] = ['CMD-SHELL', long['test']];
  return long;
});

const PORT =
  /^(?:(?:\[([0-9a-f:.]+)\]|(\d+(?:\.\d+){3})):)?(?:(\d*(?:-\d+)?):)?(\d+(?:-\d+)?)(?:\/(tcp|udp|sctp))?$/i;

const ports = converting((value, path) =>
  (value as unknown[]).flatMap((item, i): unknown[] => {
    if (isMapValue(item)) return [item];
    const match = PORT.exec(String(item));
    if (!match) throw invalid(`${path}[${i}]: "${String(item)}" is not a port; write 8080:80, or 80`);
    const [, ip6, ip4, published, target = '', protocol = 'tcp'] = match;
    const targets = expandRange(target);
    const outside = published === undefined || published === '' ? [] : expandRange(published);
    if (outside.length > 0 && outside.length !== targets.length)
      throw invalid(`${path}[${i}]: "${String(item)}" has ranges of different lengths`);
    return targets.map((port, at) => ({
      target: port,
      protocol,
      mode: 'ingress',
      ...(outside[at] === undefined ? {} : { published: String(outside[at]) }),
      ...((ip6 ?? ip4) === undefined ? {} : { host_ip: ip6 ?? ip4 }),
    }));
  }),
);

const RANGE_MAX = 1_000;

function expandRange(text: string): number[] {
  const [first = 0, last = first] = text.split('-').map(Number);
  const length = last - first + 1;
  if (length < 1 || length > RANGE_MAX) throw invalid(`"${text}" is not a range of ports`);
  return Array.from({ length }, (_, i) => first + i);
}

const volumes = converting((value, path, folder) =>
  (value as unknown[]).map((item, i) => {
    if (isMapValue(item)) {
      return item['type'] === 'bind' ? { ...item, source: location(item['source'], path, folder) } : item;
    }
    const parts = String(item).split(':');
    const [source = '', target, mode] = parts;
    if (parts.length > 3) throw invalid(`${path}[${i}]: "${String(item)}" is not source:target:mode`);
    if (target === undefined) return { type: 'volume', target: source };
    const readOnly = mode?.split(',').includes('ro') ? { read_only: true } : {};
    const isPath = /^[./~]/.test(source);
    return isPath
      ? { type: 'bind', source: location(source, path, folder), target, ...readOnly }
      : { type: 'volume', source, target, ...readOnly };
  }),
);

const ulimits = converting((value) =>
  Object.fromEntries(
    Object.entries(value as YamlMap).map(([name, limit]) => [
      name,
      isMapValue(limit) ? limit : { soft: limit, hard: limit },
    ]),
  ),
);

const deploy = converting((value, path, folder) =>
  within(value as YamlMap, path, folder, { labels: assignments }),
);

const SERVICE: Readonly<Record<string, Convert>> = {
  annotations: assignments,
  build,
  command: words,
  configs: grants,
  depends_on: dependencies,
  deploy,
  dns: list,
  dns_search: list,
  entrypoint: words,
  env_file: envFiles,
  environment: assignments,
  extends: converting((value) => (typeof value === 'string' ? { service: value } : value)),
  extra_hosts: assignments,
  healthcheck,
  label_file: list,
  labels: assignments,
  networks,
  ports,
  secrets: grants,
  sysctls: assignments,
  tmpfs: list,
  ulimits,
  volumes,
};

const FILE_OF_GRANT = { file: location, labels: assignments };

/** A whole file, checked before. `folder` is what its relative paths are relative to. */
export function canonicalise(file: YamlMap, folder: string): YamlMap {
  const each = (converters: Readonly<Record<string, Convert>>): Convert =>
    converting((entries, path) =>
      Object.fromEntries(
        Object.entries(entries as YamlMap).map(([name, entry]) => [
          name,
          isMapValue(entry) ? within(entry, `${path}.${name}`, folder, converters) : entry,
        ]),
      ),
    );
  return within(file, '', folder, {
    services: each(SERVICE),
    secrets: each(FILE_OF_GRANT),
    configs: each(FILE_OF_GRANT),
    networks: each({ labels: assignments }),
    volumes: each({ labels: assignments }),
  });
}

function within(
  value: YamlMap,
  path: string,
  folder: string,
  converters: Readonly<Record<string, Convert>>,
): YamlMap {
  const result = { ...value };
  for (const [key, convert] of Object.entries(converters)) {
    if (Object.hasOwn(result, key))
      result[key] = convert(result[key], path === '' ? key : `${path}.${key}`, folder);
  }
  return result;
}

function isUrl(text: string): boolean {
  return /^(?:[a-z][a-z0-9+.-]*:\/\/|git@)/i.test(text);
}

function expandHome(path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : path;
}
