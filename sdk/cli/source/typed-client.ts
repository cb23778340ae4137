/**
 * The text that gives a client the types of functions: their names, and for those whose source is here what they take and
 * answer, by type imports of their modules. Invariant: equal functions give equal text, so that a check can compare it.
 */
import { dirname, relative, sep } from 'node:path';

export interface TypedFunction {
  readonly name: string;
  /** Absolute path of a TypeScript module whose default export is the function; absent when nothing says its types. */
  readonly module?: string;
}

/** How to import a module so that TypeScript finds it under every setting. */
function toSpecifier(module: string, target: string): string {
  const path = relative(dirname(target), module).split(sep).join('/');
  const from = path.startsWith('.') ? path : `./${path}`;
  // Declaration files may say .ts; other modules only with a setting that few projects have.
  if (/\.d\.[cm]?ts$/.test(target)) return from;
  return from.replace(/\.([cm]?)tsx?$/, '.$1js');
}

/** `make-thumbs` -> `makeThumbs`, which is not taken yet. */
function toIdentifier(name: string, taken: Set<string>): string {
  const plain = `${name.replaceAll(/-+(\w)/g, (_, letter: string) => letter.toUpperCase())}Function`;
  let free = plain;
  for (let n = 2; taken.has(free); n++) free = `${plain}${n}`;
  taken.add(free);
  return free;
}

/**
 * @param target where the text will be, which imports are relative to
 * @param command that wrote it, for its first line
 */
export function describeClient(functions: readonly TypedFunction[], target: string, command: string): string {
  const taken = new Set<string>();
  const rows = functions
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, module }) => {
      const identifier = module === undefined ? undefined : toIdentifier(name, taken);
      return {
        imported:
          identifier && `import type ${identifier} from '${toSpecifier(module as string, target)}';\n`,
        member: `  readonly ${name.includes('-') ? `'${name}'` : name}: ${identifier ? `typeof ${identifier}` : 'JsonFunction<unknown, unknown>'};\n`,
      };
    });
  const names = ['Client', ...(rows.some(({ imported }) => !imported) ? ['JsonFunction'] : [])].join(', ');
  return `// Written by \`${command}\`. Write it again when functions come or go.
import type { ${names} } from 'skiff/client';
${rows.map(({ imported }) => imported ?? '').join('')}
/** Functions by name. */
export interface Functions {
${rows.map(({ member }) => member).join('')}}

/** A client that knows them: \`const skiff: Skiff = createClient({ url, token })\`. */
export type Skiff = Client<Response, Functions>;
`;
}
