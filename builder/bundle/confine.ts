/**
 * Second fence around a build, inside the bundler: a module that resolves to a file outside the allowed folders is
 * an error that names the import, not a file that is missing or, worse, found.
 * esbuild asks a plugin over a pipe for each match, so the filter itself matches only what is outside: a build that
 * stays inside pays nothing.
 */
import type { Plugin } from 'esbuild';

export const PATTERN_META = /[\\^$.*+?()[\]{}|/-]/g;

interface Branch {
  isEnd: boolean;
  readonly children: Map<string, Branch>;
}

function createBranch(): Branch {
  return { isEnd: false, children: new Map() };
}

/**
 * Source of a pattern, without look-ahead (Go's regular expressions have none), for the beginning of texts that begin
 * with none of `prefixes`: at each character of the tree of prefixes, either the text ends, or it leaves the tree, or
 * it goes on.
 */
export function negatePrefixes(prefixes: readonly string[]): string {
  const root = createBranch();
  for (const prefix of prefixes) {
    let branch = root;
    for (const character of prefix) {
      const next = branch.children.get(character) ?? createBranch();
      branch.children.set(character, next);
      branch = next;
    }
    branch.isEnd = true;
  }
  return renderBranch(root);
}

function renderBranch(branch: Branch): string {
  const characters = [...branch.children.keys()].map((character) => character.replace(PATTERN_META, '\\$&'));
  const alternatives = ['$', `[^${characters.join('')}]`];
  let i = 0;
  for (const child of branch.children.values()) {
    if (!child.isEnd) alternatives.push((characters[i] as string) + renderBranch(child));
    i++;
  }
  return `(?:${alternatives.join('|')})`;
}

/** `folders` and `hide` are paths as esbuild sees them. */
export function confineTo(folders: readonly string[], hide: (text: string) => string): Plugin {
  const filter = new RegExp(`^${negatePrefixes(folders.map((folder) => `${folder}/`))}`);
  return {
    name: 'confine',
    setup(build) {
      build.onLoad({ filter, namespace: 'file' }, ({ path }) => ({
        errors: [
          { text: `"${hide(path)}" is outside the function's folder; copy what the function needs into it` },
        ],
      }));
    },
  };
}
