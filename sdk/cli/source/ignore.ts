/**
 * Which files of a folder belong to its source. Rules in the order in which the last match wins: what is never
 * wanted by default, .gitignore from the repository's root down to the file's folder, and .skiffignore beside each.
 * Invariant: `.git` and `node_modules` are never part of a source, whatever the rules say.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import ignore, { type Ignore } from 'ignore';

/** Secrets and rubbish. A `!.env` in .skiffignore brings a file back. */
const DEFAULT_RULES = ['.env', '.env.*', '.DS_Store', '*.swp', '.hg', '.svn'];
const NEVER: ReadonlySet<string> = new Set(['.git', 'node_modules']);
const RULE_FILES = ['.gitignore', '.skiffignore'] as const;

interface RuleSet {
  /** Absolute folder the rules are relative to. */
  readonly folder: string;
  readonly rules: Ignore;
}

export interface IgnoreRules {
  isIgnored(path: string, isFolder: boolean): boolean;
  /** The rules inside `folder`: these and those of the files in it. */
  enter(folder: string): IgnoreRules;
}

/** Rules for everything below `root` (absolute), as git would apply them there. */
export function readIgnoreRules(root: string): IgnoreRules {
  const defaults: RuleSet = { folder: root, rules: ignore().add(DEFAULT_RULES) };
  const outside = foldersFromRepository(root).flatMap((folder) => readRuleFiles(folder));
  return createRules([defaults, ...outside]);
}

function createRules(sets: readonly RuleSet[]): IgnoreRules {
  return {
    enter: (folder) => createRules([...sets, ...readRuleFiles(folder)]),
    isIgnored(path, isFolder) {
      const name = path.slice(path.lastIndexOf(sep) + 1);
      if (NEVER.has(name)) return true;
      let isIgnored = false;
      for (const { folder, rules } of sets) {
        const inside = relative(folder, path).split(sep).join('/');
        // The folder it is in was entered, so a later rule brought that back: only rules on the path itself count.
        const parent = inside.slice(0, Math.max(0, inside.lastIndexOf('/')));
        if (parent !== '' && rules.test(`${parent}/`).ignored) continue;
        const result = rules.test(isFolder ? `${inside}/` : inside);
        if (result.ignored) isIgnored = true;
        if (result.unignored) isIgnored = false;
      }
      return isIgnored;
    },
  };
}

/** Both files of one folder are one list, .skiffignore last. */
function readRuleFiles(folder: string): RuleSet[] {
  const paths = RULE_FILES.map((name) => join(folder, name)).filter((path) => existsSync(path));
  if (paths.length === 0) return [];
  return [{ folder, rules: ignore().add(paths.map((path) => readFileSync(path, 'utf8')).join('\n')) }];
}

/** The folders above `root` up to the one with `.git`, outermost first; none when it is not in a repository. */
function foldersFromRepository(root: string): string[] {
  if (existsSync(join(root, '.git'))) return [];
  const folders: string[] = [];
  for (let folder = dirname(root); ; folder = dirname(folder)) {
    folders.unshift(folder);
    if (existsSync(join(folder, '.git'))) return folders;
    if (folder === dirname(folder)) return [];
  }
}
