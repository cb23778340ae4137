/** README.md is true: its map is the tree, its tables are the code's. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { KNOWN_SETTINGS } from '../infra/lib/config.ts';
import { COMMANDS } from '../sdk/cli/registry.ts';
import { ERRORS } from '../sdk/protocol/errors.ts';
import { ROOT, describeFindings, sources, type Finding, type Rule } from './helpers/source-tree.ts';

const README = 'README.md';
/** Without the blanks that align tables. */
const text = readFileSync(join(ROOT, README), 'utf8').replace(/(?<=\|) +| +(?=\|)/g, ' ');

/** `sdk/` and, indented below it, `cli/`: paths of the code map. */
function mappedFolders(): string[] {
  const map = /```text\n([^]*?)```/.exec(text)?.[1] ?? '';
  let top = '';
  return map.split('\n').flatMap((line) => {
    const [, indent, name] = /^( *)([\w-]+)\//.exec(line) ?? [];
    if (name === undefined) return [];
    if (indent === '') top = name;
    return [indent === '' ? name : `${top}/${name}`];
  });
}

/** Folders a reader meets: the layers, and what is one level below those that are only containers. */
function realFolders(): string[] {
  const list = (folder: string) =>
    readdirSync(join(ROOT, folder), { withFileTypes: true }).filter(
      // What the package's build writes is not part of the tree.
      (entry) => entry.isDirectory() && entry.name !== 'dist',
    );
  const below = ['sdk', 'infra'].flatMap((top) => [top, ...list(top).map(({ name }) => `${top}/${name}`)]);
  return [...below, 'gateway', 'builder', 'runner', 'test'];
}

function compare(what: string, inReadme: readonly string[], inCode: readonly string[]): Finding[] {
  const absent = inCode
    .filter((name) => !inReadme.includes(name))
    .map((name) => `does not have ${what} ${name}`);
  const stale = inReadme
    .filter((name) => !inCode.includes(name))
    .map((name) => `has ${what} ${name}, which does not exist`);
  return [...absent, ...stale].map((detail) => ({ file: README, detail }));
}

const namesIn = (pattern: RegExp): string[] => [
  ...new Set([...text.matchAll(pattern)].map((match) => match[1] as string)),
];

function findErrorDifferences(): Finding[] {
  const rows = Object.entries(ERRORS).map(
    ([code, row]) => `| \`${code}\` | ${row.status} | ${row.fault} | ${row.summary} |`,
  );
  return compare(
    'the row',
    text.split('\n').filter((line) => /^\| `[A-Z_]+` \| \d{3} \|/.test(line)),
    rows,
  );
}

function findCommandDifferences(): Finding[] {
  const tables = text
    .split('\n')
    .filter((line) =>
      /^\| (?:functions|observation|events|applications|releases|server|access|tool) +\|/.test(line),
    );
  const inReadme = tables.flatMap((line) =>
    [...line.matchAll(/`([\w-]+)`/g)].map((match) => match[1] as string),
  );
  return compare('the command', inReadme, [...COMMANDS.map(({ name }) => name), 'help']);
}

function findUnreadSettings(): Finding[] {
  const code = sources
    .filter(({ path }) => path !== 'infra/lib/config.ts')
    .map((file) => file.code)
    .join('\n');
  const common = readFileSync(join(ROOT, 'infra/lib/config.ts'), 'utf8').split('KNOWN_SETTINGS')[0] as string;
  return [...KNOWN_SETTINGS].flatMap((name) =>
    code.includes(name) || common.includes(name)
      ? []
      : [{ file: 'infra/lib/config.ts', detail: `nobody reads ${name}` }],
  );
}

const rules: Rule[] = [
  {
    name: 'the code map of the README is the tree',
    reason: 'a map that is wrong costs more than none',
    fix: 'add, rename or remove the line of that folder, with its invariant',
    find: () => compare('the folder', mappedFolders(), realFolders()),
  },
  {
    name: 'every setting is in the README, and only those',
    reason: 'a setting nobody can find is not one',
    fix: 'correct the table of settings',
    find: () => compare('the setting', namesIn(/`(SKIFF_[A-Z_]*[A-Z])`/g), [...KNOWN_SETTINGS]),
  },
  {
    name: 'every known setting is read by somebody',
    reason: 'a setting that is accepted and does nothing is worse than an error',
    fix: 'remove it from KNOWN_SETTINGS, or read it',
    find: findUnreadSettings,
  },
  {
    name: 'the error table of the README is that of the code',
    reason: 'codes are the stable part of a failure: people program against this table',
    fix: 'copy the row from sdk/protocol/errors.ts',
    find: findErrorDifferences,
  },
  {
    name: 'the commands of the README are those of the CLI',
    reason: 'the table is how people learn what there is',
    fix: 'correct the table of commands',
    find: findCommandDifferences,
  },
];

test.each(rules)('$name', (rule) => {
  expect(describeFindings(rule)).toBe('');
});
