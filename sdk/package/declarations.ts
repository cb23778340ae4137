/**
 * The package's .d.ts files, one for each module that an entry reaches, beside each other as their sources are.
 * Invariant: they import nothing but each other. Modules with zod schemas become their types alone (type-printer.ts).
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { API, type Project } from 'typescript/unstable/sync';
import { type NamedType, TypePrinter } from './type-printer.ts';

const COMPILE_MS_MAX = 120_000;
/** `SymbolFlags`: what a type export can be. */
const TYPE_FLAGS = 64 | 524_288;
/** In statements, and in types as `import('./x.ts').X`; not in the examples of comments. */
const SPECIFIER = /(?<=^(?:import|export)\b(?:(?!\/\*)[^;])*? from '|\bimport\(['"])(\.[^'"]+)\.ts(?=['"])/gm;

export interface DeclarationOptions {
  /** The folder sdk. */
  readonly root: string;
  /** Of the entries, relative to the root, without the extension. */
  readonly entries: readonly string[];
  readonly outDir: string;
}

export async function writeDeclarations(options: DeclarationOptions): Promise<void> {
  const { root, entries, outDir } = options;
  const config = join(root, 'package', 'tsconfig.json');
  const tsc = fileURLToPath(import.meta.resolve('typescript/package.json'));
  await promisify(execFile)(
    process.execPath,
    [join(dirname(tsc), 'bin', 'tsc'), '--project', config, '--outDir', outDir],
    { timeout: COMPILE_MS_MAX },
  ).catch((error: unknown) => {
    throw new Error(`tsc failed:\n${(error as { stdout?: string }).stdout ?? ''}`, { cause: error });
  });
  const api = new API({ cwd: root });
  try {
    const [project] = api.updateSnapshot({ openProjects: [config] }).getProjects();
    if (!project) throw new Error(`${config} is not a project`);
    flattenSchemas(project, root, outDir);
  } finally {
    api.close();
  }
  keepReachable(entries, outDir);
}

const listFiles = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.d.ts'))
    .map((entry) => join(entry.parentPath, entry.name));

/** Modules whose types are made by zod are written anew, as types. */
function flattenSchemas(project: Project, root: string, outDir: string): void {
  const modules = listFiles(outDir)
    .filter((file) => /from 'zod'/.test(readFileSync(file, 'utf8')))
    .map((file) => ({ file, source: join(root, relative(outDir, file).replace(/\.d\.ts$/, '.ts')) }));
  const exportsOf = (source: string) => {
    const file = project.program.getSourceFile(source);
    const module = file && project.checker.getSymbolAtLocation(file);
    if (!module) throw new Error(`${source} is not part of the program`);
    return project.checker.getExportsOfModule(module).filter(({ flags }) => (flags & TYPE_FLAGS) !== 0);
  };
  const names = new Map<number, NamedType>();
  for (const { source } of modules) {
    for (const symbol of exportsOf(source)) {
      const type = project.checker.getDeclaredTypeOfSymbol(symbol);
      // A name for `string` would be told of every string.
      if (type.isObjectType() || type.isUnionType())
        names.set(type.id, names.get(type.id) ?? { name: symbol.name, module: source });
    }
  }
  const printer = new TypePrinter(project.checker, names);
  for (const { file, source } of modules) {
    const { text, used } = printer.printModule(source, exportsOf(source));
    const imports = used.map(({ name, module }) => {
      const path = relative(dirname(source), module);
      return `import type { ${name} } from '${path.startsWith('.') ? path : `./${path}`}';\n`;
    });
    writeFileSync(file, `${imports.join('')}${text}`);
  }
}

/** Says `.js` in imports, as published packages do, and removes what no entry needs. */
function keepReachable(entries: readonly string[], outDir: string): void {
  const reached = new Set<string>();
  const queue = entries.map((entry) => join(outDir, `${entry}.d.ts`));
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (reached.has(file)) continue;
    reached.add(file);
    const text = readFileSync(file, 'utf8');
    for (const [, path] of text.matchAll(SPECIFIER)) queue.push(join(dirname(file), `${path}.d.ts`));
    writeFileSync(file, text.replaceAll(SPECIFIER, '$1.js'));
  }
  for (const file of listFiles(outDir)) if (!reached.has(file)) rmSync(file);
  for (const file of reached) if (!existsSync(file)) throw new Error(`${file} was not written`);
}
