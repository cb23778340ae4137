/**
 * Errors as text, with stack lines that point into the sources. Source maps are read when the first stack is asked
 * for: parsing them at load would be paid by every cold start, also of functions that never fail.
 */
import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { fileURLToPath } from 'node:url';

export interface ErrorText {
  readonly message: string;
  readonly stack?: string;
}

/** Anything can be thrown. */
export function describeError(error: unknown): ErrorText {
  if (!(error instanceof Error)) return { message: `thrown: ${tryString(error)}` };
  const message = tryString(error);
  const causes: string[] = [];
  let current: unknown = error;
  for (let depth = 0; current instanceof Error && depth < 5; depth++) {
    causes.push(
      `${depth === 0 ? '' : 'caused by: '}${typeof current.stack === 'string' ? current.stack : message}`,
    );
    current = current.cause;
  }
  return { message, stack: causes.join('\n') };
}

function tryString(value: unknown): string {
  try {
    return String(value);
  } catch {
    return 'a value that cannot be printed';
  }
}

const maps = new Map<string, SourceMap | undefined>();

function tryLoadMap(file: string): SourceMap | undefined {
  if (maps.has(file)) return maps.get(file);
  let map: SourceMap | undefined;
  try {
    map = new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')) as SourceMapPayload);
  } catch {
    map = undefined;
  }
  maps.set(file, map);
  return map;
}

/** `file:line:column` in the source for a place in a bundle, or undefined when there is no map. */
function tryMapPlace(site: NodeJS.CallSite): string | undefined {
  const name = site.getFileName();
  if (!name || name.startsWith('node:')) return undefined;
  const file = name.startsWith('file:') ? fileURLToPath(name) : name;
  const line = site.getLineNumber();
  const column = site.getColumnNumber();
  if (!line || !column) return undefined;
  // Not findOrigin: Bun's answers nothing.
  const entry = tryLoadMap(file)?.findEntry(line - 1, column - 1);
  return entry && 'originalSource' in entry && entry.originalSource !== undefined
    ? `${entry.originalSource}:${entry.originalLine + 1}:${entry.originalColumn + 1}`
    : undefined;
}

/** As V8 prints it, with the place exchanged. */
function formatSite(site: NodeJS.CallSite): string {
  const text = String(site);
  const place = tryMapPlace(site);
  if (place === undefined) return text;
  const original = /\(.*\)$/.exec(text);
  return original ? `${text.slice(0, original.index)}(${place})` : place;
}

const OWN = /^(?:node:|\/skiff\/guest\.cjs$)/;

/**
 * How many frames are of use to the author: those below the last one of theirs are how the agent called them. All, when
 * none is theirs. `names` are files of the frames, innermost first.
 */
export function countShown(names: readonly (string | null | undefined)[]): number {
  const last = names.findLastIndex((name) => name && !OWN.test(name));
  return last < 0 ? names.length : last + 1;
}

/** Installs the mapping for every `error.stack` that is looked at from now on. */
export function mapStackTraces(): void {
  Error.prepareStackTrace = (error, sites) => {
    const shown = sites.slice(0, countShown(sites.map((site) => site.getFileName())));
    const lines = shown.map((site) => `\n    at ${formatSite(site)}`);
    return `${tryString(error)}${lines.join('')}`;
  };
}
