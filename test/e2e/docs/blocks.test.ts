/**
 * Every code block of the documents: shell commands run against a real server in order, TypeScript is compiled against the
 * package as it is published, and what cannot be run says why in its info string (those are listed).
 */
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { documents, matches, readBlocks, readCommands, type CodeBlock } from '../../helpers/code-blocks.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { ROOT, type SourceFile } from '../../helpers/source-tree.ts';

const run = promisify(execFile);
const server = useServer();
const EXAMPLE_URL = 'http://127.0.0.1:8080';
const MINUTES_3 = 180_000;
/** Languages that are not code to be run. */
const PROSE = new Set(['text', 'mermaid', 'ts-signature']);

/** What a snippet takes from the program that it would be part of. */
const AMBIENT = `
declare const url: string;
declare const token: string;
declare function show(value: unknown): void;
declare function charge(request: Request): Promise<{ id: string }>;
declare function mail(order: { id: string }): Promise<void>;
`;

let root: string;
const folderOf = (document: string): string => join(root, document.replaceAll(/[/.]/g, '-'));

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'skiff-docs-'));
  await run(process.execPath, ['sdk/package/main.ts'], { cwd: ROOT });
  const installed = join(root, 'node_modules', 'skiff');
  mkdirSync(installed, { recursive: true });
  cpSync(join(ROOT, 'sdk/dist'), join(installed, 'dist'), { recursive: true });
  cpSync(join(ROOT, 'sdk/package.json'), join(installed, 'package.json'));
  mkdirSync(join(root, 'node_modules/@types'));
  symlinkSync(join(ROOT, 'node_modules/@types/node'), join(root, 'node_modules/@types/node'));
  symlinkSync(join(ROOT, 'node_modules/undici-types'), join(root, 'node_modules/undici-types'));
  // `npx skiff` is for readers who did not install the command.
  mkdirSync(join(root, 'bin'));
  writeFileSync(join(root, 'bin/npx'), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
  symlinkSync(join(ROOT, 'sdk/cli/skiff'), join(root, 'bin/skiff'));
  writeFileSync(join(root, 'package.json'), '{ "type": "module" }');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function write(block: CodeBlock, name: string): void {
  const path = join(folderOf(block.document), name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, block.text.replaceAll(EXAMPLE_URL, server.url));
}

/** Guides of hosts install packages and change services: nothing for a test to run unasked. */
const MAY_RUN = /^(?:README\.md|sdk\/)/;

/** Runs a block's commands in one shell; returns what each printed. */
function runCommands(block: CodeBlock): string[] {
  if (!MAY_RUN.test(block.document))
    throw new Error(`${block.document}:${block.line}: say in its info string why it is not run: not-run="…"`);
  const marker = `--- ${block.line} ---`;
  const commands = readCommands(block.text);
  const script = commands
    .map(({ text }) => `echo '${marker}'\n${text.replaceAll(EXAMPLE_URL, server.url)}`)
    .join('\n');
  const cwd = folderOf(block.document);
  mkdirSync(cwd, { recursive: true });
  const { status, stdout, stderr } = spawnSync('bash', ['-euc', script], {
    cwd,
    encoding: 'utf8',
    timeout: MINUTES_3,
    env: {
      PATH: [join(root, 'bin'), join(ROOT, 'node_modules/.bin'), process.env['PATH']].join(':'),
      HOME: root,
      SKIFF_URL: server.url,
      SKIFF_TOKEN: server.token,
      NO_COLOR: '1',
    },
  });
  const where = `${block.document}:${block.line}`;
  expect(status, `${where}\n${stdout}\n${stderr}`).toBe(0);
  return stdout.split(`${marker}\n`).slice(1);
}

const runnable = documents.map((document) => ({
  path: document.path,
  blocks: readBlocks(document).filter(({ language, notRun }) => !PROSE.has(language) && notRun === undefined),
}));

describe.each(runnable.filter(({ blocks }) => blocks.length > 0))('$path', ({ blocks }) => {
  test('every block of it does what it says', { timeout: MINUTES_3 }, () => {
    for (const block of blocks) {
      if (block.file !== undefined) write(block, block.file);
      switch (block.language) {
        case 'console': {
          const printed = runCommands(block);
          readCommands(block.text).forEach(({ text, expected }, index) => {
            if (expected === '') return;
            const actual = printed[index] as string;
            const said = expected.replaceAll(EXAMPLE_URL, server.url);
            const isAsSaid = matches(actual, said);
            expect(isAsSaid, `${block.document}: $ ${text}\nprinted:\n${actual}\nsaid:\n${said}`).toBe(true);
          });
          break;
        }
        case 'ts':
          if (block.file === undefined) write(block, `block-${block.line}.ts`);
          break;
        case 'py':
          // The commands after it deploy it.
          expect(block.file, `${block.document}:${block.line}`).toBeDefined();
          break;
        case 'json':
          JSON.parse(block.text);
          break;
        case 'yaml':
          parse(block.text);
          break;
        case 'js':
        case 'dockerfile':
          // Run by the commands that come after it.
          expect(block.file, `${block.document}:${block.line}`).toBeDefined();
          break;
        default:
          throw new Error(
            `${block.document}:${block.line}: what is to be done with a block of "${block.language}"?`,
          );
      }
    }
  });
});

test('the TypeScript of all documents compiles against the package', async () => {
  for (const { blocks } of runnable) {
    for (const block of blocks)
      if (block.language === 'ts') write(block, block.file ?? `block-${block.line}.ts`);
  }
  writeFileSync(join(root, 'ambient.d.ts'), AMBIENT);
  // What the docstrings call.
  const [greet] = readBlocks(documents.find(({ path }) => path === 'sdk/README.md') as SourceFile);
  for (const { path } of runnable.filter((one) => one.path.startsWith('sdk/docs/reference/'))) {
    write({ ...(greet as CodeBlock), document: path }, 'functions/greet.ts');
  }
  const compilerOptions = {
    module: 'esnext',
    moduleResolution: 'bundler',
    allowImportingTsExtensions: true,
    moduleDetection: 'force',
    target: 'esnext',
    lib: ['esnext', 'dom', 'dom.iterable', 'dom.asynciterable'],
    strict: true,
    noEmit: true,
    types: ['node'],
    skipLibCheck: true,
  };
  writeFileSync(join(root, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['**/*.ts'] }));
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const { stdout } = await run(process.execPath, [tsc, '-p', root]).catch(
    (error: unknown) => error as { stdout: string },
  );
  expect(stdout).toBe('');
});

test('what is not run says why', () => {
  const reasons = documents
    .flatMap(readBlocks)
    .flatMap(({ document, line, notRun }) =>
      notRun === undefined ? [] : [`${document}:${line}: ${notRun}`],
    );
  process.stdout.write(`code blocks that are not run:\n${reasons.map((reason) => `  ${reason}\n`).join('')}`);
  expect(reasons.length).toBeLessThan(20);
});
