/**
 * Reads compose files into one canonical mapping: interpolated, checked, made long, with what they extend and include.
 * Invariant: each file's relative paths mean its own folder, and cycles end with an error that shows them.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { canonicalise } from '../document/canonical.ts';
import { type Interpolation, interpolateValue, type Variables } from '../document/interpolate.ts';
import { dropMarks, mergeValues } from '../document/merge.ts';
import { invalid, isMapValue, parseYaml, type YamlMap } from '../document/yaml-file.ts';
import { checkFile } from '../schema/file.ts';
import { checkSpecification } from '../schema/specification.ts';

export interface ReadOptions {
  /** For names of files in messages. */
  readonly cwd: string;
  readonly variables: Variables;
  readonly isInterpolated: boolean;
  readonly onNote: (note: string) => void;
}

/** Files of one application, merged. `folder` is what their relative paths mean. */
export function readFiles(
  files: readonly string[],
  folder: string,
  options: ReadOptions,
  trail: readonly string[] = [],
): YamlMap {
  let merged: YamlMap = {};
  for (const file of files) {
    if (trail.includes(file))
      throw invalid(`files include each other: ${describeTrail([...trail, file], options)}`);
    const own = readFile(file, folder, options);
    const included = readIncludes(own, file, folder, options, [...trail, file]);
    const extended = extendServices(own, file, folder, options);
    merged = mergeValues(addIncluded(merged, included), extended) as YamlMap;
  }
  return merged;
}

function readFile(file: string, folder: string, options: ReadOptions): YamlMap {
  const name = relative(options.cwd, file) || file;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw invalid(`${name} cannot be read: ${(error as Error).message}`);
  }
  const raw = parseYaml(text, name);
  const use: Interpolation = {
    variables: options.variables,
    onUnset: (variable) => options.onNote(`the variable ${variable} is not set; it counts as empty`),
  };
  const value = options.isInterpolated ? (interpolateValue(raw, '', use) as YamlMap) : raw;
  const unmarked = dropMarks(value) as YamlMap;
  checkFile(unmarked, name);
  checkSpecification(unmarked, name);
  if (value['version'] !== undefined) options.onNote(`${name}: "version" has no meaning any more; remove it`);
  return canonicalise(value, folder);
}

function readIncludes(
  own: YamlMap,
  file: string,
  folder: string,
  options: ReadOptions,
  trail: readonly string[],
): YamlMap[] {
  const includes = (own['include'] ?? []) as (string | YamlMap)[];
  delete own['include'];
  return includes.map((include) => {
    const {
      path,
      project_directory: directory,
      env_file: envFile,
    } = isMapValue(include) ? include : { path: include };
    const paths = [path].flat().map((one) => resolve(folder, String(one)));
    const [first] = paths;
    if (first === undefined) throw invalid(`${relative(options.cwd, file)}: include without a path`);
    const inner = directory === undefined ? dirname(first) : resolve(folder, String(directory));
    const envFiles = envFile === undefined ? [] : [envFile].flat().map((one) => resolve(folder, String(one)));
    // The included application's own .env is a default, below what is set already.
    const variables = {
      ...readVariables(envFiles.length > 0 ? envFiles : [resolve(inner, '.env')], envFiles.length > 0),
      ...options.variables,
    };
    return readFiles(paths, inner, { ...options, variables }, trail);
  });
}

/** What comes from an include must not be said again differently. */
function addIncluded(base: YamlMap, included: readonly YamlMap[]): YamlMap {
  const result: YamlMap = { ...base };
  for (const one of included) {
    for (const kind of ['services', 'networks', 'volumes', 'secrets', 'configs']) {
      const entries = Object.entries((one[kind] ?? {}) as YamlMap);
      const known = { ...(result[kind] as YamlMap | undefined) };
      for (const [name, entry] of entries) {
        const other = known[name];
        if (other !== undefined && JSON.stringify(other) !== JSON.stringify(entry))
          throw invalid(`${kind}.${name} is defined in two included files, and not in the same way`);
        known[name] = entry;
      }
      if (entries.length > 0) result[kind] = known;
    }
  }
  return result;
}

export function readVariables(files: readonly string[], isRequired: boolean): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const file of files) {
    if (!isRequired && !existsSync(file)) continue;
    try {
      Object.assign(variables, parseEnv(readFileSync(file, 'utf8')));
    } catch (error) {
      throw invalid(`${file} cannot be read: ${(error as Error).message}`);
    }
  }
  return variables;
}

function extendServices(own: YamlMap, file: string, folder: string, options: ReadOptions): YamlMap {
  const services = own['services'];
  if (!isMapValue(services)) return own;
  const read = new Map<string, YamlMap>([[file, services]]);
  const resolveService = (from: string, name: string, trail: readonly string[]): unknown => {
    const key = `${from}#${name}`;
    if (trail.includes(key))
      throw invalid(`services extend each other: ${describeTrail([...trail, key], options)}`);
    const service = read.get(from)?.[name];
    if (service === undefined)
      throw invalid(
        `services.${name} is extended, but ${relative(options.cwd, from) || from} has no such service`,
      );
    if (!isMapValue(service) || !isMapValue(service['extends'])) return service;
    const { extends: target, ...rest } = service;
    const { service: base, file: other } = target as { service: string; file?: string };
    const source = other === undefined ? from : resolve(from === file ? folder : dirname(from), other);
    if (!read.has(source))
      read.set(source, (readFile(source, dirname(source), options)['services'] ?? {}) as YamlMap);
    return mergeValues(dropMarks(resolveService(source, base, [...trail, key])), rest);
  };
  const extended = Object.keys(services).map((name) => [name, resolveService(file, name, [])]);
  return { ...own, services: Object.fromEntries(extended) as YamlMap };
}

function describeTrail(trail: readonly string[], { cwd }: ReadOptions): string {
  return trail.map((one) => relative(cwd, one) || one).join(' -> ');
}
