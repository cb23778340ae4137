/** The house rules, executed: what a file may contain, how long it may be, what it may be called. */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { ERRORS } from '../sdk/protocol/errors.ts';
import {
  ROOT,
  describeFindings,
  exists,
  files,
  grep,
  sources,
  tests,
  type Finding,
  type Rule,
} from './helpers/source-tree.ts';

const isMain = (path: string): boolean => basename(path) === 'main.ts';
const outside = (...prefixes: string[]) =>
  sources.filter(({ path }) => !prefixes.some((prefix) => path.startsWith(prefix)));

/** Ends the process for main.ts, which hands it over. */
const SHUTDOWN = 'infra/lib/shutdown.ts';

const LINES_MAX = 400;
const TEST_LINES_MAX = 600;

function findLongFiles(): Finding[] {
  return [...sources, ...tests].flatMap(({ path, lines }) => {
    const max = path.startsWith('test/') ? TEST_LINES_MAX : LINES_MAX;
    return lines.length > max ? [{ file: path, detail: `${lines.length} lines; the limit is ${max}` }] : [];
  });
}

const FOLDER_FILES_MAX = 13;

function findFullFolders(): Finding[] {
  const counts = new Map<string, number>();
  for (const { path } of sources) counts.set(dirname(path), (counts.get(dirname(path)) ?? 0) + 1);
  return [...counts].flatMap(([file, count]) =>
    count > FOLDER_FILES_MAX ? [{ file, detail: `${count} files; the limit is ${FOLDER_FILES_MAX}` }] : [],
  );
}

const VAGUE = /^(?:utils?|helpers?|common|misc|types|shared|stuff|manager)$/;

function findBadNames(): Finding[] {
  return [...sources, ...tests].flatMap(({ path }) => {
    const parts = path.replace(/(?:\.test|\.bench|\.config)?\.ts$/, '').split('/');
    const inHelpers = path.startsWith('test/helpers/');
    return parts.flatMap((part, index) => {
      if (!/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(part))
        return [{ file: path, detail: `"${part}" is not kebab-case` }];
      const isVague = VAGUE.test(part) && !(inHelpers && index === 1);
      return isVague ? [{ file: path, detail: `"${part}" says nothing` }] : [];
    });
  });
}

/** Every source file says first what it owns. */
function findUnexplained(): Finding[] {
  return sources.flatMap(({ path, text }) => {
    const isExplained = /^(?:#![^\n]*\n)?\s*(?:\/\*\*|\/\/)/.test(text);
    return isExplained ? [] : [{ file: path, detail: 'does not open with a comment' }];
  });
}

/** Wire format of every script: what goes in, what comes out, what it fails with. */
function findUnexplainedScripts(): Finding[] {
  return files.flatMap(({ path, text }) => {
    if (!path.endsWith('.lua')) return [];
    const absent = ['Input', 'Output'].filter((word) => !new RegExp(`^[\\s-]*${word}:`, 'm').test(text));
    return absent.length === 0 ? [] : [{ file: path, detail: `has no ${absent.join(', ')} in its header` }];
  });
}

function findUnusedErrors(): Finding[] {
  const code = sources
    .filter(({ path }) => path !== 'sdk/protocol/errors.ts')
    .map((file) => file.code)
    .join('\n');
  return Object.keys(ERRORS).flatMap((name) =>
    new RegExp(`\\b${name}\\b`).test(code)
      ? []
      : [{ file: 'sdk/protocol/errors.ts', detail: `${name} is never used` }],
  );
}

interface Package {
  readonly scripts: Record<string, string>;
  readonly bin: Record<string, string>;
  readonly dependencies: Record<string, string>;
  readonly devDependencies: Record<string, string>;
  readonly optionalDependencies: Record<string, string>;
}
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Package;

function findMissingPrograms(): Finding[] {
  const named = Object.values(manifest.scripts).flatMap(
    (script) => script.match(/[\w./-]+\.(?:sh|ts)\b/g) ?? [],
  );
  const wanted = [...named, ...Object.values(manifest.bin)];
  return wanted.flatMap((path) =>
    exists(path) ? [] : [{ file: 'package.json', detail: `${path} does not exist` }],
  );
}

function findLooseVersions(): Finding[] {
  const all = { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies };
  return Object.entries(all).flatMap(([name, version]) =>
    /^\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(version)
      ? []
      : [{ file: 'package.json', detail: `${name} is "${version}"` }],
  );
}

/** Spelled in two parts, so that this file is not its own finding. */
const REGISTRY_HOSTS = new RegExp(
  [
    'registry\\.np' + 'mjs',
    'registry\\.yar' + 'npkg',
    'np' + 'mmirror',
    'hub\\.doc' + 'ker',
    'doc' + 'ker\\.io',
    'gh' + 'cr\\.io',
    'qu' + 'ay\\.io',
    'deb\\.deb' + 'ian\\.org',
  ].join('|'),
);

const NOTES = new RegExp(`\\b(?:${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'].join('|')})\\b`);

const rules: Rule[] = [
  {
    name: `a file has at most ${LINES_MAX} lines, a test ${TEST_LINES_MAX}`,
    reason: 'a file that does not fit into the head is changed wrongly',
    fix: 'split it by noun',
    find: findLongFiles,
  },
  {
    name: `a folder has at most ${FOLDER_FILES_MAX} source files`,
    reason: 'a list that long is not read',
    fix: 'make a subfolder for what belongs together',
    find: findFullFolders,
  },
  {
    name: 'files and folders are kebab-case nouns',
    reason: 'a name like utils or types attracts everything and tells nothing',
    fix: 'name it for the one thing it owns',
    find: findBadNames,
  },
  {
    name: 'a source file opens with a comment',
    reason: 'a reader must learn what a file owns before reading it',
    fix: 'say in 1 to 15 lines what it owns, its invariant, and what it deliberately does not do',
    find: findUnexplained,
  },
  {
    name: 'a Lua script names its input and output',
    reason: 'KEYS and ARGV have no names; callers are in another language',
    fix: 'write a header with Input, Output and Errors',
    find: findUnexplainedScripts,
  },
  {
    name: 'only main.ts reads process.env and exits',
    reason: 'what a part depends on must be visible in its parameters, and testable',
    fix: 'read it in main.ts (config.ts has the schema) and pass it on; throw in place of exit',
    find: () =>
      grep(
        outside('sdk/examples/').filter(({ path }) => !isMain(path) && path !== SHUTDOWN),
        /(?<!['"`])\bprocess\.(?:env\b|exit\()/,
        (match) => match,
      ),
  },
  {
    name: 'no console outside of the CLI, the guest and the supervisor',
    reason: 'a service says things in its log, where they have a level, a role and a trace',
    fix: 'take a Log',
    find: () => grep(outside('sdk/cli/', 'sdk/guest/', 'infra/host/'), /\bconsole\.\w+/, (match) => match),
  },
  {
    name: 'Redis keys are built in infra/contract/keys.ts alone',
    reason:
      'a key that two files spell is a key that they will spell differently, and its hash tag is a promise',
    fix: 'add it to keys.ts, with what it holds',
    find: () =>
      grep(
        sources.filter(({ path }) => path !== 'infra/contract/keys.ts'),
        /\{skiff\}|['"`]skiff:\w/,
        (match) => match,
      ),
  },
  {
    name: 'every error code is used',
    reason: 'the table is what users program against; a code that cannot occur is a lie',
    fix: 'raise it where it belongs or remove the row',
    find: findUnusedErrors,
  },
  {
    name: 'errors that leave are SkiffErrors',
    reason: 'a bare string or object carries no code, no fault and no stack',
    fix: 'throw new SkiffError(code, what failed, the value, the limit, what to do)',
    find: () => grep(sources, /\bthrow\s+(?:['"`{]|\d)/, (match) => match),
  },
  {
    name: 'no notes to be done',
    reason: 'what is to be done has its place in the issues, where somebody looks',
    fix: 'do it, or file it and leave the code true as it is',
    find: () => grep(files, NOTES, (match) => match),
  },
  {
    name: 'no registry host names',
    reason: 'the machine decides where packages and images come from',
    fix: 'use npm, apt and the configured registry as they are set up',
    find: () => grep(files, REGISTRY_HOSTS, (match) => match),
  },
  {
    name: 'no module mocks and no lint rule switched off without a word',
    reason: 'a mocked module tests the mock; an unexplained exception is copied',
    fix: 'inject the thing; write `-- why` behind the disabled rule',
    find: () => [
      ...grep(tests, /\bvi\.(?:mock|doMock)\(/, (match) => match),
      ...[...sources, ...tests].flatMap(({ path, lines }) =>
        lines.flatMap((line, index) => {
          const isSilent =
            /(?:oxlint|eslint)-disable(?!.*--)|@ts-(?:ignore|nocheck)|@ts-expect-error\s*$/.test(line);
          return isSilent && !path.includes('tidy')
            ? [{ file: path, line: index + 1, detail: line.trim() }]
            : [];
        }),
      ),
    ],
  },
  {
    name: 'the programs that package.json names exist',
    reason: 'npm start and npm test are the two commands everybody types',
    fix: 'correct the path',
    find: findMissingPrograms,
  },
  {
    name: 'versions are exact',
    reason: 'a range installs something nobody has run',
    fix: 'npm install --save-exact',
    find: findLooseVersions,
  },
];

test.each(rules)('$name', (rule) => {
  expect(describeFindings(rule)).toBe('');
});
