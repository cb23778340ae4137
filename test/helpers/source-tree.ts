/** The repository as the tidy tests see it: its files, their lines, code without comments, and their imports. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export const ROOT = join(import.meta.dirname, '..', '..');

export interface SourceFile {
  /** Relative to the top folder, with `/`. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  /** Comments blanked out, line numbers kept. Only for .ts files. */
  readonly code: string;
  readonly imports: readonly Import[];
}

export interface Import {
  /** As written. */
  readonly specifier: string;
  /** Path of the imported file in this repository; undefined for packages and built-ins. */
  readonly target: string | undefined;
  /** Erased at run time. */
  readonly isType: boolean;
}

/** What a rule found wrong. */
export interface Finding {
  readonly file: string;
  readonly line?: number;
  readonly detail: string;
}

export interface Rule {
  readonly name: string;
  readonly reason: string;
  readonly fix: string;
  readonly find: () => Finding[];
}

const SKIPPED = new Set(['node_modules', '.git', '.cache', 'out', 'dist']);
const TEXT =
  /\.(?:ts|tsx|js|cjs|mjs|lua|sh|md|json|ya?ml|html|css|py|service)$|(?:^|\/)(?:run|skiff|LICENSE|\.npmrc|\.gitignore)$/;

function listPaths(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    if (SKIPPED.has(entry.name)) return [];
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    return entry.isDirectory() ? listPaths(path) : [path];
  });
}

/** Blanks comments out and leaves strings alone; regular expressions with quotes or slashes in them are rare enough. */
export function blankComments(text: string): string {
  const token =
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\*[^]*?\*\/|(?<![:\\])\/\/[^\n]*/g;
  return text.replace(token, (match) => (match.startsWith('/') ? match.replace(/[^\n]/g, ' ') : match));
}

const IMPORT =
  /(?:^|[\s;])(import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)/g;

export function parseImports(path: string, code: string): Import[] {
  return [...code.matchAll(IMPORT)].map((match) => {
    const specifier = (match[3] ?? match[4]) as string;
    const target = specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : undefined;
    return { specifier, target, isType: match[2] !== undefined };
  });
}

function readSource(path: string): SourceFile {
  const text = readFileSync(join(ROOT, path), 'utf8');
  const code = path.endsWith('.ts') ? blankComments(text) : '';
  return {
    path,
    text,
    lines: text.split('\n'),
    code,
    imports: path.endsWith('.ts') ? parseImports(path, code) : [],
  };
}

/** Every text file of the repository but the lock file. */
export const files: readonly SourceFile[] = listPaths('')
  .filter((path) => TEXT.test(path) && path !== 'package-lock.json')
  .map(readSource);

const isTest = (path: string): boolean => path.startsWith('test/');

/** The platform's own TypeScript: no tests, no configuration of tools, no examples. */
export const sources = files.filter(
  ({ path }) =>
    path.endsWith('.ts') && path.includes('/') && !isTest(path) && !path.startsWith('infra/deploy/'),
);
export const tests = files.filter(
  ({ path }) => path.endsWith('.ts') && isTest(path) && !path.startsWith('test/fixtures/'),
);

export function exists(path: string): boolean {
  return existsSync(join(ROOT, path));
}

/** Every line of `within` whose code matches. Global flag not needed. */
export function grep(
  within: readonly SourceFile[],
  pattern: RegExp,
  detail: (match: string) => string,
): Finding[] {
  return within.flatMap((file) =>
    (file.path.endsWith('.ts') ? file.code : file.text).split('\n').flatMap((line, index) => {
      const match = pattern.exec(line);
      return match ? [{ file: file.path, line: index + 1, detail: detail(match[0]) }] : [];
    }),
  );
}

/** One text for all findings of a rule; empty when there are none. */
export function describeFindings(rule: Rule): string {
  const places = rule
    .find()
    .map(({ file, line, detail }) => `  ${file}${line === undefined ? '' : `:${line}`}  ${detail}`);
  if (places.length === 0) return '';
  return [`rule: ${rule.name}`, `why:  ${rule.reason}`, `fix:  ${rule.fix}`, ...places].join('\n');
}
