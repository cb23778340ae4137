/** The layers, executed: who may import whom, and that no import goes in circles. */
import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  ROOT,
  blankComments,
  describeFindings,
  exists,
  parseImports,
  sources,
  type Finding,
  type Rule,
  type SourceFile,
} from './helpers/source-tree.ts';

const SERVICES = ['gateway', 'builder', 'runner'];

/** `infra/oci/x.ts` -> `infra/oci`; `gateway/app.ts` -> `gateway`. */
function layerOf(path: string): string {
  const [top = '', second = ''] = path.split('/');
  return SERVICES.includes(top) ? top : `${top}/${second}`;
}

/** Of sdk, beside its protocol. Testing runs the guest, and sends sources as the CLI does. */
const SDK_USES: Readonly<Record<string, readonly string[]>> = {
  'sdk/cli': ['sdk/client', 'sdk/compose', 'sdk/dev'],
  'sdk/testing': ['sdk/client', 'sdk/guest', 'sdk/cli'],
};

/** Why `from` may not import `to`; undefined when it may. */
function forbids(from: string, to: string): string | undefined {
  if (from === to) return undefined;
  if (from.startsWith('sdk/')) {
    if (!to.startsWith('sdk/'))
      return 'sdk runs at users and in sandboxes; it imports neither infra nor a service';
    if (from === 'sdk/protocol') return 'sdk/protocol stands on nothing';
    if (to === 'sdk/protocol' || SDK_USES[from]?.includes(to)) return undefined;
    return 'parts of sdk share sdk/protocol only (the CLI uses the client, compose and dev; testing what it tests with)';
  }
  if (to.startsWith('sdk/'))
    return to === 'sdk/protocol' ? undefined : 'the platform uses of sdk its protocol only';
  if (SERVICES.includes(to)) return 'nobody imports a service; services meet in Redis, the registry and HTTP';
  if (to === 'infra/host') return 'the supervisor starts services; nothing imports it';
  if (to.startsWith('infra/')) return undefined;
  return 'that folder is no layer';
}

function findLayerBreaks(): Finding[] {
  return sources.flatMap((file) =>
    file.imports.flatMap(({ target, specifier }) => {
      if (target === undefined) return [];
      if (!exists(target)) return [{ file: file.path, detail: `imports ${specifier}, which does not exist` }];
      const why = forbids(layerOf(file.path), layerOf(target));
      return why === undefined ? [] : [{ file: file.path, detail: `imports ${target}: ${why}` }];
    }),
  );
}

function findCycles(): Finding[] {
  const byPath = new Map(sources.map((file) => [file.path, file]));
  const done = new Set<string>();
  const found: Finding[] = [];
  const visit = (file: SourceFile, trail: string[]): void => {
    const at = trail.indexOf(file.path);
    if (at >= 0) {
      found.push({ file: file.path, detail: [...trail.slice(at), file.path].join(' -> ') });
      return;
    }
    if (done.has(file.path)) return;
    for (const { target, isType } of file.imports) {
      const next = isType ? undefined : byPath.get(target ?? '');
      if (next) visit(next, [...trail, file.path]);
    }
    done.add(file.path);
  };
  for (const file of sources) visit(file, []);
  return found;
}

/** Entries that are published, see `exports` in sdk/package.json. */
const ENTRIES = ['sdk/authoring/index.ts', 'sdk/client/index.ts', 'sdk/testing/index.ts'];

function findBarrels(): Finding[] {
  return sources.flatMap(({ path, code }) => {
    // What users write is named as they name it.
    if (ENTRIES.includes(path) || /^sdk\/(?:examples|cli\/templates)\//.test(path)) return [];
    if (path.endsWith('/index.ts')) return [{ file: path, detail: 'is named index.ts' }];
    const statements = code
      .split(';')
      .map((statement) => statement.trim())
      .filter(Boolean);
    const isBarrel =
      statements.length > 0 && statements.every((statement) => /^export\b[^]*\bfrom\s/.test(statement));
    return isBarrel ? [{ file: path, detail: 'only exports what other files export' }] : [];
  });
}

function findForeignImports(): Finding[] {
  return sources.flatMap(({ path, imports }) =>
    imports.flatMap(({ specifier, target }) => {
      if (
        target === undefined &&
        /^sdk\/(?:client|guest|authoring|protocol)\//.test(path) &&
        !specifier.startsWith('node:')
      ) {
        const isSchema = path.startsWith('sdk/protocol/') && specifier === 'zod';
        return isSchema ? [] : [{ file: path, detail: `imports the package ${specifier}` }];
      }
      if (target !== undefined && !/\.(?:ts|json)$/.test(specifier)) {
        return [{ file: path, detail: `imports ${specifier} without its extension` }];
      }
      return [];
    }),
  );
}

/** What a function imports: sdk/authoring and what is published beside it. */
const OWN: ReadonlySet<string> = new Set(['skiff']);
/** Run by those who work on Skiff alone. */
const WORKSHOP = 'sdk/package/';

/** `npm install --omit=dev` is how hosts and the image get their packages. */
function findMissingDependencies(): Finding[] {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    readonly dependencies: Record<string, string>;
  };
  const all = sources.filter(({ path }) => !path.startsWith(WORKSHOP) && !path.startsWith('sdk/examples/'));
  return all.flatMap(({ path, imports }) =>
    imports.flatMap(({ specifier, target, isType }) => {
      if (isType || target !== undefined || isBuiltin(specifier)) return [];
      const name = /^(?:@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? specifier;
      return name in manifest.dependencies || OWN.has(name)
        ? []
        : [{ file: path, detail: `imports ${name}, which is not in dependencies` }];
    }),
  );
}

const rules: Rule[] = [
  {
    name: 'what runs at users is in dependencies',
    reason:
      'hosts and the image are installed without devDependencies; there the import fails when it is met',
    fix: 'move the package to dependencies, or import only its types',
    find: findMissingDependencies,
  },
  {
    name: 'imports go one way: sdk/protocol <- infra <- gateway | builder | runner',
    reason: 'a part can be read, tested and replaced without those above it only if it does not know them',
    fix: 'move what both need one layer down, or hand it over as a parameter',
    find: findLayerBreaks,
  },
  {
    name: 'no import cycles',
    reason: 'files in a cycle can only be understood, loaded and tested together',
    fix: 'move the shared part into a third file, or import only the type',
    find: findCycles,
  },
  {
    name: 'no barrels',
    reason: 'a file that only re-exports hides who uses what, and hides cycles',
    fix: 'import from the file that defines it',
    find: findBarrels,
  },
  {
    name: 'sdk stands on built-ins only, and imports name the whole file',
    reason:
      'client, authoring and guest code runs where no package of ours is; Node runs .ts only by its full name',
    fix: 'write the few lines, or move the code out of sdk; add the extension .ts',
    find: findForeignImports,
  },
];

test.each(rules)('$name', (rule) => {
  expect(describeFindings(rule)).toBe('');
});

test('the layers are what the README says', () => {
  const refused = [
    ['sdk/cli', 'infra/host'],
    ['sdk/guest', 'sdk/client'],
    ['sdk/client', 'sdk/testing'],
    ['sdk/protocol', 'sdk/client'],
    ['infra/lib', 'sdk/client'],
    ['infra/oci', 'builder'],
    ['gateway', 'runner'],
    ['builder', 'infra/host'],
  ];
  const allowed = [
    ['gateway', 'infra/lib'],
    ['infra/oci', 'infra/lib'],
    ['runner', 'sdk/protocol'],
    ['sdk/cli', 'sdk/client'],
    ['infra/host', 'infra/contract'],
  ];
  const isForbidden = ([from = '', to = '']: string[]) => forbids(from, to) !== undefined;
  expect(refused.filter((pair) => !isForbidden(pair))).toEqual([]);
  expect(allowed.filter(isForbidden)).toEqual([]);
});

test('imports are found in code, and not in comments', () => {
  const code = blankComments(`
    import { a } from './a.ts'; // import './no.ts'
    /* import './no.ts' */ import type { B } from '../b.ts';
    const text = 'http://x'; const later = await import('./c.ts');
    export { d } from './d.ts';`);
  const found = parseImports('x/y/z.ts', code).map(({ target, isType }) => [target, isType]);
  expect(found).toEqual([
    ['x/y/a.ts', false],
    ['x/b.ts', true],
    ['x/y/c.ts', false],
    ['x/y/d.ts', false],
  ]);
});
