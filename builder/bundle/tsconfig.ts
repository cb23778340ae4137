/**
 * What the builder must know of a project's tsconfig.json before esbuild reads it: that `extends` stays inside, and
 * whether it says how JSX is compiled.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type ParseError, parse, visit } from 'jsonc-parser';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { isFileWithin } from '../source/tree.ts';

const TSCONFIG_BYTES_MAX = 256 * 1024;
/** Options that change what the code means when one file is compiled alone. */
const SEMANTIC_OPTIONS = [
  'experimentalDecorators',
  'useDefineForClassFields',
  'verbatimModuleSyntax',
  'alwaysStrict',
  'strict',
  'target',
] as const;

export interface ProjectTypescript {
  /** compilerOptions for files that are compiled alone. */
  readonly compilerOptions: Readonly<Record<string, unknown>>;
  readonly saysJsx: boolean;
}

/** Reads tsconfig.json (or jsconfig.json) of the root folder, following nothing. Throws BUILD_FAILED when it is unsafe. */
export async function readProjectTypescript(root: string): Promise<ProjectTypescript> {
  for (const name of ['tsconfig.json', 'jsconfig.json']) {
    if (!(await isFileWithin(root, name))) continue;
    const file = join(root, name);
    if ((await stat(file)).size > TSCONFIG_BYTES_MAX) {
      throw new SkiffError('BUILD_FAILED', `${name} is larger than ${TSCONFIG_BYTES_MAX} bytes`);
    }
    return readCompilerOptions(name, await readFile(file, 'utf8'));
  }
  return { compilerOptions: {}, saysJsx: false };
}

function readCompilerOptions(name: string, text: string): ProjectTypescript {
  refuseForeignExtends(name, text);
  const errors: ParseError[] = [];
  const config: unknown = parse(text, errors, { allowTrailingComma: true });
  const options = (config as { compilerOptions?: unknown } | undefined)?.compilerOptions;
  if (typeof options !== 'object' || options === null)
    return { compilerOptions: {}, saysJsx: /"extends"/.test(text) };
  const all = options as Record<string, unknown>;
  const compilerOptions = Object.fromEntries(
    SEMANTIC_OPTIONS.flatMap((option) => (Object.hasOwn(all, option) ? [[option, all[option]]] : [])),
  );
  return { compilerOptions, saysJsx: Object.hasOwn(all, 'jsx') || /"extends"/.test(text) };
}

/** Every `extends` at the top, also a repeated one: which of them esbuild would take is not for us to guess. */
function refuseForeignExtends(name: string, text: string): void {
  const paths: string[] = [];
  visit(text, {
    onLiteralValue: (value, _offset, _length, _line, _character, pathOf) => {
      const path = pathOf();
      if (path[0] === 'extends' && typeof value === 'string') paths.push(value);
    },
  });
  for (const path of paths) {
    const isOutside = path.startsWith('/') || join('/root', path).startsWith('/root/') === false;
    if (isOutside) {
      throw new SkiffError(
        'BUILD_FAILED',
        `${name} extends "${path}", which is outside the function's folder; copy that file into it`,
      );
    }
  }
}
