import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBundlerEngine, type BundlerEngine } from '../../../../builder/bundle/engine.ts';
import { readConfigInCode } from '../../../../builder/source/config-in-code.ts';
import { mergeConfig } from '../../../../sdk/protocol/source/code-config.ts';
import { createSourceFolder } from '../../../helpers/source-folder.ts';

let engine: BundlerEngine;
beforeAll(async () => {
  engine = await openBundlerEngine(undefined, process.env);
});
afterAll(() => engine.close());

const warnings: string[] = [];
async function read(text: string, name = 'index.ts'): Promise<unknown> {
  await using source = await createSourceFolder({ [name]: text });
  warnings.length = 0;
  return await readConfigInCode(engine, source.path, name, new AbortController().signal, (line) =>
    warnings.push(line),
  );
}

const HANDLER = 'export default (): Response => new Response("x");\n';

test.each([
  ['an exported constant', `export const config = { memory: '512MB', max: 3 };\n${HANDLER}`],
  [
    'one with types around it',
    `import type { FunctionConfig } from 'skiff';
     export const config = { memory: '512MB', max: 3 } as const satisfies FunctionConfig;\n${HANDLER}`,
  ],
  ['one exported by name', `const config = { memory: '512MB', max: 3 }; export { config };\n${HANDLER}`],
  [
    'defineFunction',
    `import { defineFunction } from 'skiff';
     export default defineFunction({ config: { memory: '512MB', max: 3 }, fetch: () => new Response() });`,
  ],
  [
    'constants that name each other',
    `const memory = '512MB';
     const config: object = { memory, max: 3 };
     const app = { config, fetch: (): Response => new Response() };
     export default app;`,
  ],
  [
    'the same constant exported and handed to defineFunction',
    `import { defineFunction } from 'skiff';
     export const config = { memory: '512MB', max: 3 };
     export default defineFunction({ config, fetch: () => new Response() });`,
  ],
  [
    'an entry with decorators',
    `function log(...values: unknown[]): any { return values[0]; }
     @log class Thing {}
     export const config = { memory: '512MB', max: 3 };
     export default () => new Response(String(Thing));`,
  ],
])('reads the config of %s', async (_form, text) => {
  expect(await read(text)).toEqual({ memory: '512MB', max: 3 });
  expect(warnings).toEqual([]);
});

test('reads CommonJS in its usual forms, also code that is no module', async () => {
  expect(await read('exports.config = { max: 2 }; exports.default = () => new Response();', 'a.cjs')).toEqual(
    {
      max: 2,
    },
  );
  const sloppy = 'var octal = 017; module.exports = { config: { min: octal && 0 }, fetch() {} };';
  await expect(read(sloppy, 'a.cjs')).rejects.toThrow('config.min is computed: octal && 0');
});

test('reads every kind of literal, nested', async () => {
  const text = `export const config = {
    env: { A: 'x', "B": \`y\`, C: '\\u00e9' }, network: { allow: ['a.example', 'b.example'] },
    cpu: 0.5, min: 1_0, access: undefined, labels: {}, on: true, off: false, nothing: null, less: -5,
  };\n${HANDLER}`;
  expect(await read(text)).toEqual({
    env: { A: 'x', B: 'y', C: 'é' },
    network: { allow: ['a.example', 'b.example'] },
    cpu: 0.5,
    min: 10,
    access: undefined,
    labels: {},
    on: true,
    off: false,
    nothing: null,
    less: -5,
  });
});

test.each([
  ['a call', 'export const config = { memory: size() };', 'config.memory is computed: size()'],
  ['a variable of the process', 'export const config = { env: { A: process.env.A } };', 'config.env.A'],
  ['arithmetic', 'export const config = { timeout: 60 * 1000 };', 'config.timeout is computed: 60 * 1'],
  ['a template with values', 'export const config = { memory: `${n}MB` };', 'config.memory is computed'],
  ['a spread', 'export const config = { ...base };', 'config has ...base; write names and values only'],
  ['a computed name', 'export const config = { [key]: 1 };', 'config has [key]: 1'],
  ['a method', 'export const config = { memory() {} };', 'config has memory()'],
  ['an import', "import { memory } from './a.ts'; export const config = { memory };", 'computed: memory'],
  ['another module', "export { config } from './a.ts';", 'config is taken from another module'],
  ['a variable', 'export let config = {};', 'config can be changed; export it as a const'],
  ['a function', 'export function config() {}', 'config is not an object'],
  ['a number', 'export const config = 3;', 'config is 3; it must be an object'],
  ['two of them', 'export const config = {}; export default { config: {}, fetch() {} };', 'given twice'],
  ['a constant that names itself', 'export const config = { max: a }; const a = b, b = a;', 'too deeply'],
])('refuses %s with its text', async (_what, text, message) => {
  const error = await read(text).then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  );
  expect(error).toMatchObject({ code: 'INVALID_CONFIG' });
  expect(error?.message).toMatch(/^index\.ts: /);
  expect(error?.message).toContain(message);
});

test('finds nothing where there is nothing to find', async () => {
  for (const text of [
    HANDLER,
    `const config = { memory: size() };\n${HANDLER}`,
    `export default create({ config: { memory: size() } });`,
    `export function handler() { const config = {}; return config; }`,
  ]) {
    expect(await read(text)).toBeUndefined();
  }
});

test('leaves a syntax error to the bundler and survives absurd nesting', async () => {
  expect(await read('export const config = {')).toBeUndefined();
  const deep = `export const config = ${'['.repeat(100_000)}${']'.repeat(100_000)};`;
  expect(await read(deep, 'index.js').catch((error: Error) => error.message)).toSatisfy(
    (outcome) => outcome === undefined || /bundler ended/.test(String(outcome)),
  );
  expect(await read(`export const config = { max: 1 };`)).toEqual({ max: 1 });
});

test('lets the request win over the code, variables and labels one by one', () => {
  const code = { memory: '1GB', max: 3, env: { A: 'code', B: 'code' }, network: { allow: ['x'] } };
  const request = { max: 5, memory: undefined, env: { B: 'request', C: 'request' }, network: 'none' };
  expect(mergeConfig(code, request)).toEqual({
    memory: '1GB',
    max: 5,
    env: { A: 'code', B: 'request', C: 'request' },
    network: 'none',
  });
});
