/**
 * Keeps "the folder this file is in" true after bundling. In the image a source file `lib/db.ts` has the location
 * /var/task/lib/db.ts, and assets it names relative to itself are copied to the same place below /var/task, so
 * `new URL('./schema.sql', import.meta.url)` and `join(__dirname, 'views')` work as they did on the author's machine.
 * Only files of the project are treated so; a bundled npm package that reads files beside its own code is not.
 */
import { readFile } from 'node:fs/promises';
import { posix } from 'node:path';
import type { Loader, Plugin } from 'esbuild';
import { negatePrefixes, PATTERN_META } from './confine.ts';
import type { Esbuild } from './engine.ts';

const MENTIONS = /\bimport\s*\.\s*meta\b|\b__dirname\b|\b__filename\b/;
const HERE = String.raw`(?:__dirname|import\.meta\.dirname)`;
const QUOTED = String.raw`(?:'[^'\n]*'|"[^"\n]*")`;
const REFERENCES: readonly RegExp[] = [
  /\bnew\s+URL\(\s*(['"`])(?<path>\.{1,2}\/[^'"`$\n]*)\1\s*,\s*import\.meta\.url\s*,?\s*\)/g,
  new RegExp(String.raw`\b(?:join|resolve)\(\s*${HERE}\s*,\s*(?<parts>${QUOTED}(?:\s*,\s*${QUOTED})*)`, 'g'),
  new RegExp(String.raw`${HERE}\s*\+\s*(?<quoted>${QUOTED})`, 'g'),
  new RegExp(String.raw`\$\{\s*${HERE}\s*\}(?<rest>/[^\x60$\n]*)`, 'g'),
];

export interface AssetReference {
  /** Path relative to the root; may lead outside, which the copier refuses. */
  readonly path: string;
  /** The file that names it. */
  readonly from: string;
}

/** Literal paths that the file builds relative to itself. A path built from variables cannot be seen. */
export function listAssetReferences(from: string, text: string): AssetReference[] {
  const folder = posix.dirname(from);
  const references: AssetReference[] = [];
  for (const pattern of REFERENCES) {
    for (const { groups } of text.matchAll(pattern)) {
      const parts = groups?.['parts'] ?? groups?.['quoted'];
      const relative = groups?.['path'] ?? groups?.['rest'] ?? readQuoted(parts ?? '');
      const path = posix.join(folder, relative.split(/[?#]/, 1)[0] as string);
      if (path !== '.' && path !== folder) references.push({ path: path.replace(/\/$/, ''), from });
    }
  }
  return references;
}

function readQuoted(text: string): string {
  return [...text.matchAll(/'([^'\n]*)'|"([^"\n]*)"/g)].map((match) => match[1] ?? match[2]).join('/');
}

export interface LocationOptions {
  readonly esbuild: Esbuild;
  /** The project's root as esbuild sees it and as we do. */
  readonly esbuildRoot: string;
  readonly hostRoot: string;
  /** Folder of the bundle in the image. */
  readonly taskDir: string;
  readonly target: string;
  readonly compilerOptions: Readonly<Record<string, unknown>>;
  readonly onAssets: (references: readonly AssetReference[]) => void;
}

export function keepLocations(options: LocationOptions): Plugin {
  const root = options.esbuildRoot.replace(PATTERN_META, '\\$&');
  // Installed packages are left out by the pattern, so that they cost no question.
  const filter = new RegExp(`^${root}/${negatePrefixes(['node_modules/'])}.*\\.(?:[cm]?[jt]s|[jt]sx)$`);
  return {
    name: 'locations',
    setup(build) {
      build.onLoad({ filter, namespace: 'file' }, async ({ path }) => {
        const relative = path.slice(options.esbuildRoot.length + 1);
        // Workspaces have folders of installed packages of their own.
        if (relative.includes('/node_modules/')) return undefined;
        const text = await readFile(`${options.hostRoot}/${relative}`, 'utf8');
        if (!MENTIONS.test(text)) return undefined;
        options.onAssets(listAssetReferences(relative, text));
        return compileInPlace(relative, text, options);
      });
    },
  };
}

/** Compiles one file with its own location as constants; the source map it carries is merged by the bundler. */
async function compileInPlace(
  relative: string,
  text: string,
  options: LocationOptions,
): Promise<{ contents: string; loader: Loader } | undefined> {
  const file = `${options.taskDir}/${relative}`;
  const loader = chooseLoader(relative);
  try {
    const { code } = await options.esbuild.transform(text, {
      loader,
      sourcefile: posix.basename(relative),
      sourcemap: 'inline',
      target: options.target,
      jsx: 'preserve',
      logLevel: 'silent',
      tsconfigRaw: {
        compilerOptions: {
          ...options.compilerOptions,
          verbatimModuleSyntax: options.compilerOptions['verbatimModuleSyntax'] === true,
        },
      },
      define: {
        'import.meta.url': JSON.stringify(`file://${encodePath(file)}`),
        'import.meta.filename': JSON.stringify(file),
        'import.meta.dirname': JSON.stringify(posix.dirname(file)),
        __filename: JSON.stringify(file),
        __dirname: JSON.stringify(posix.dirname(file)),
      },
    });
    return { contents: code, loader: 'jsx' };
  } catch {
    // A syntax error: the bundler itself finds it again and reports it with the right file name.
    return undefined;
  }
}

function chooseLoader(path: string): Loader {
  if (/\.[cm]?ts$/.test(path)) return 'ts';
  return path.endsWith('.tsx') ? 'tsx' : 'jsx';
}

function encodePath(path: string): string {
  return encodeURI(path).replaceAll('#', '%23').replaceAll('?', '%3F');
}
